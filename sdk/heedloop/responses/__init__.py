"""What the server's REST routes return: each response is one of these classes, and is defined nowhere else.

The server's routes return them, `/openapi.json` is made of them, and the methods of `heedloop.client.Client` return them.
In JSON a field whose default is None is left out where it is None; every other field is there, null where it is None.
Times are aware UTC `datetime`s, in JSON as RFC 3339 strings. Rates are between 0 and 1.
"""

from heedloop.responses.alerts import *
from heedloop.responses.calls import *
from heedloop.responses.datasets import *
from heedloop.responses.erasures import *
from heedloop.responses.evaluations import *
from heedloop.responses.examples import *
from heedloop.responses.experiments import *
from heedloop.responses.extension import *
from heedloop.responses.feedback import *
from heedloop.responses.health import *
from heedloop.responses.imports import *
from heedloop.responses.insights import *
from heedloop.responses.intervals import *
from heedloop.responses.jobs import *
from heedloop.responses.judges import *
from heedloop.responses.named_ratings import *
from heedloop.responses.operations import *
from heedloop.responses.projects import *
from heedloop.responses.prompts import *
from heedloop.responses.quality import *
from heedloop.responses.review import *
from heedloop.responses.review_control import *
from heedloop.responses.runs import *
from heedloop.responses.sessions import *
