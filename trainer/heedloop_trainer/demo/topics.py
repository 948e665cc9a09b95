"""What the customers of the demo's shop ask about: facts, each with its right value, wrong values and wordings.

The shop is invented. `NUM_FRESH_WORDINGS` says how many of each fact's wordings only fresh users ask.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FACTS", "NUM_FRESH_WORDINGS", "TOPICS", "Fact"]

NUM_FRESH_WORDINGS = 2
"""The last wordings of each fact that only fresh users ask: no feedback was ever collected on them."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that customers ask and the shop has an answer to.

    Attributes:
        topic: the subject it belongs to, such as `refunds`.
        name: unique name of the fact.
        sentences: how the answer is put, with `{}` for the value.
        right: the value that is true.
        wrong: values that are false but plausible.
        wordings: how customers ask for it, without greeting and without the final question mark.
    """

    topic: str
    name: str
    sentences: tuple[str, str]
    right: str
    wrong: tuple[str, ...]
    wordings: tuple[str, ...]


FACTS: tuple[Fact, ...] = (
    Fact(
        "refunds",
        "refund_time",
        ("A refund takes {}.", "Your money is back within {}."),
        "five working days",
        ("one day", "six weeks"),
        (
            "how long does a refund take",
            "when do I get my money back",
            "how many days until the refund arrives",
            "when is my refund paid out",
            "what is the waiting time for a refund",
            "how soon will I see the money again",
        ),
    ),
    Fact(
        "refunds",
        "refund_way",
        ("We refund to {}.", "The money goes to {}."),
        "the card you paid with",
        ("a gift voucher", "any bank account"),
        (
            "how is a refund paid",
            "where does the refund go",
            "can the refund go to another account",
            "how do you send the money back",
            "to which card is the refund paid",
            "where will my money be sent",
        ),
    ),
    Fact(
        "refunds",
        "refund_postage",
        ("We refund the postage {}.", "Postage is paid back {}."),
        "only for faulty goods",
        ("in every case", "never"),
        (
            "do you refund the postage",
            "is the postage paid back",
            "do I get the shipping cost back",
            "who pays the postage of a return",
            "will you pay back what I paid for postage",
            "are shipping costs part of the refund",
        ),
    ),
    Fact(
        "returns",
        "return_window",
        ("You can return it within {}.", "Returns are open for {}."),
        "thirty days",
        ("one week", "a full year"),
        (
            "how long can I return an order",
            "how many days do I have to send it back",
            "until when can I return it",
            "what is the time limit for returns",
            "is it too late to send this back",
            "by when must a return be posted",
        ),
    ),
    Fact(
        "returns",
        "return_box",
        ("Please pack it in {}.", "It must come back in {}."),
        "any sturdy box",
        ("the unopened box", "a paper bag"),
        (
            "what box do I need for a return",
            "do I need the first packaging",
            "how should I pack a return",
            "can I use another box to send it back",
            "which packaging is needed for a return",
            "how do I wrap it for the way back",
        ),
    ),
    Fact(
        "returns",
        "return_place",
        ("Bring it to {}.", "You can hand it in at {}."),
        "any post office",
        ("our warehouse", "the town hall"),
        (
            "where do I bring a return",
            "where can I hand in a parcel",
            "which place takes my return",
            "where should I drop the parcel",
            "where do returns have to go",
            "who takes the parcel from me",
        ),
    ),
    Fact(
        "delivery",
        "delivery_time",
        ("Delivery takes {}.", "Your parcel arrives in {}."),
        "three days",
        ("two hours", "a month"),
        (
            "how long does delivery take",
            "when will my parcel arrive",
            "how many days is the delivery",
            "when does my order come",
            "how fast do you ship",
            "when can I expect the parcel",
        ),
    ),
    Fact(
        "delivery",
        "delivery_cost",
        ("Delivery costs {}.", "For shipping we charge {}."),
        "four euros",
        ("nothing at all", "twenty euros"),
        (
            "what does delivery cost",
            "how much is shipping",
            "do I pay for delivery",
            "what do you charge for a parcel",
            "is the delivery free",
            "what is the price of shipping",
        ),
    ),
    Fact(
        "delivery",
        "delivery_track",
        ("You can track it {}.", "The parcel's way is shown {}."),
        "on the order page",
        ("in the newspaper", "by fax"),
        (
            "how do I track my parcel",
            "where is my parcel now",
            "can I follow my delivery",
            "where do I see how far my order is",
            "how can I find my parcel",
            "is there a way to follow the order",
        ),
    ),
    Fact(
        "warranty",
        "warranty_length",
        ("The warranty lasts {}.", "You are covered for {}."),
        "two years",
        ("ten years", "three months"),
        (
            "how long is the warranty",
            "how many years am I covered",
            "when does my warranty end",
            "for how long is it under warranty",
            "is it still covered after a year",
            "what is the length of the warranty",
        ),
    ),
    Fact(
        "warranty",
        "warranty_proof",
        ("For a claim you need {}.", "Please keep {} for a claim."),
        "the invoice",
        ("a photo of yourself", "a lawyer"),
        (
            "what do I need for a warranty claim",
            "which papers does a claim need",
            "how do I prove my warranty",
            "what must I send with a claim",
            "what should I keep for the warranty",
            "is a receipt needed for a claim",
        ),
    ),
    Fact(
        "warranty",
        "warranty_water",
        ("Water damage is {}.", "Damage by water is {}."),
        "not covered",
        ("always covered", "covered twice"),
        (
            "is water damage covered",
            "does the warranty cover water",
            "it fell into water, is that covered",
            "do you pay for water damage",
            "what happens after damage by water",
            "am I covered if it got wet",
        ),
    ),
    Fact(
        "account",
        "account_password",
        ("You can reset it {}.", "A new password is made {}."),
        "on the sign in page",
        ("in a shop", "by letter"),
        (
            "how do I reset my password",
            "where can I change my password",
            "I forgot my password, what now",
            "how do I get a new password",
            "my password does not work, what can I do",
            "where is the password reset",
        ),
    ),
    Fact(
        "account",
        "account_delete",
        ("An account is deleted {}.", "We remove an account {}."),
        "within a week",
        ("after five years", "on the first of May"),
        (
            "how do I delete my account",
            "when is my account deleted",
            "can you remove my account",
            "how fast is an account closed",
            "how long until my account is gone",
            "when will you have closed the account",
        ),
    ),
    Fact(
        "account",
        "account_email",
        ("You change it {}.", "The address is changed {}."),
        "under profile",
        ("by phone only", "at the airport"),
        (
            "how do I change my email",
            "where can I change my address",
            "my email is new, where do I say so",
            "how do I set another email",
            "where is the setting for my email",
            "where do I enter a new address",
        ),
    ),
    Fact(
        "billing",
        "billing_invoice",
        ("You find invoices {}.", "Each invoice is stored {}."),
        "under my orders",
        ("in the parcel only", "at the tax office"),
        (
            "where is my invoice",
            "how do I get an invoice",
            "where can I find old invoices",
            "can you send me the invoice",
            "I need the bill for my taxes, where is it",
            "where do I download a bill",
        ),
    ),
    Fact(
        "billing",
        "billing_methods",
        ("You can pay by {}.", "We accept {}."),
        "card or bank transfer",
        ("cash only", "shells"),
        (
            "how can I pay",
            "which payment do you accept",
            "can I pay by card",
            "what ways of paying are there",
            "do you take a bank transfer",
            "what can I pay with",
        ),
    ),
    Fact(
        "billing",
        "billing_double",
        ("A double charge is returned {}.", "If you paid twice we correct it {}."),
        "the next day",
        ("never", "after one year"),
        (
            "I was charged twice, what now",
            "why did you charge me two times",
            "I paid twice, when is it corrected",
            "there is a double charge, what happens",
            "you took the money two times, what now",
            "my card shows the charge twice, what can I do",
        ),
    ),
    Fact(
        "subscription",
        "subscription_cancel",
        ("You can cancel {}.", "Cancelling is possible {}."),
        "at any time",
        ("once a year", "on Sundays only"),
        (
            "when can I cancel the subscription",
            "how do I end my subscription",
            "can I cancel this month",
            "how long am I bound to the plan",
            "when can I stop the plan",
            "until when do I have to pay for the plan",
        ),
    ),
    Fact(
        "subscription",
        "subscription_price",
        ("The plan costs {}.", "For the plan we charge {}."),
        "nine euros a month",
        ("ninety euros a month", "one cent a month"),
        (
            "what does the subscription cost",
            "how much is the plan",
            "what do I pay each month",
            "what is the price of the plan",
            "how expensive is a subscription",
            "what is the monthly price",
        ),
    ),
    Fact(
        "subscription",
        "subscription_pause",
        ("You can pause it for {}.", "A pause may last {}."),
        "up to three months",
        ("twenty years", "one hour"),
        (
            "can I pause the subscription",
            "how long can I pause the plan",
            "is a pause of the plan possible",
            "what is the longest pause",
            "can the plan rest while I travel",
            "may I stop the plan for the summer",
        ),
    ),
    Fact(
        "orders",
        "order_change",
        ("An order can be changed {}.", "Changes are possible {}."),
        "until it is packed",
        ("even after delivery", "not at all"),
        (
            "can I change my order",
            "how long can I change an order",
            "I ordered the wrong size, can I change it",
            "until when are changes possible",
            "is it possible to add something to my order",
            "can you still alter the order",
        ),
    ),
    Fact(
        "orders",
        "order_minimum",
        ("The smallest order is {}.", "You can order from {}."),
        "ten euros",
        ("five hundred euros", "one ton"),
        (
            "what is the smallest order",
            "is there a minimum order",
            "how much do I have to order",
            "from what amount can I order",
            "how small may an order be",
            "can I order just one thing",
        ),
    ),
    Fact(
        "orders",
        "order_confirm",
        ("A confirmation is sent {}.", "We confirm an order {}."),
        "by email at once",
        ("by pigeon", "after three weeks"),
        (
            "when is my order confirmed",
            "do I get a confirmation",
            "how do you confirm an order",
            "I got no confirmation, when does it come",
            "how do I know that my order was received",
            "where does the confirmation arrive",
        ),
    ),
)

TOPICS: tuple[str, ...] = tuple(dict.fromkeys(fact.topic for fact in FACTS))
