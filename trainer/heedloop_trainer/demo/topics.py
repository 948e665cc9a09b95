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
