"""The operations about webhooks are among all others, under the numbers that the table says."""

from braidmq.protocols.native import webhook_operations
from braidmq.protocols.native.operations import OPERATIONS


def test_every_operation_has_its_number_in_the_table():
    kinds = [getattr(webhook_operations, name) for name in webhook_operations.__all__]
    tags = {kind.__struct_config__.tag for kind in kinds}
    assert tags == {number for name, number in OPERATIONS.items() if "WEBHOOK" in name}
