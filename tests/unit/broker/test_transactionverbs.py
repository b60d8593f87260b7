"""The verb of transactions: whoever has it, in process or over a wire, has it alike."""

import inspect

from braidmq.broker.localverbs import LocalVerbs
from braidmq.broker.transactionverbs import TransactionVerbs
from braidmq.protocols.native.client import NativeClient


def test_it_is_the_same_everywhere():
    wanted = list(inspect.signature(TransactionVerbs.transact).parameters)
    for kind in LocalVerbs, NativeClient:
        assert list(inspect.signature(kind.transact).parameters) == wanted
