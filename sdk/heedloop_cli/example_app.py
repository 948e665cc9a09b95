"""The app that `heedloop quickstart` runs: one answer, and what a user thought of it.

It is yours to change: HEEDLOOP_URL and HEEDLOOP_API_KEY say where it sends to.
"""

import heedloop

heedloop.configure(service="example-app")


@heedloop.trace(prompt_name="returns", prompt_version="1", model="example")
def answer(question: str) -> str:
    """Your call of a model."""
    return f"You asked: {question} You can return it within thirty days."


text, handle = answer.with_handle("How do I return a lamp?")
heedloop.thumbs_up(handle, author="user-17", comment="That was quick.")

delivery = heedloop.flush(timeout_s=10)
if not delivery.complete:
    raise SystemExit(f"not delivered yet: {delivery.last_error}")
print(handle)
