"""The operations about webhooks are among all others, under the numbers that the table says."""

from typing import get_args

from braidmq.protocols.native import webhook_operations as webhooks
from braidmq.protocols.native.operations import OPERATIONS


def test_every_operation_has_its_number_in_the_table():
    kinds = [*get_args(webhooks.Request), webhooks.WebhooksReply]
    assert {kind.__name__ for kind in kinds} | {"OPERATIONS"} == set(webhooks.__all__)
    assert {kind.__struct_config__.tag for kind in kinds} == set(webhooks.OPERATIONS.values())
    named = {name: number for name, number in OPERATIONS.items() if "WEBHOOK" in name}
    assert named == webhooks.OPERATIONS
