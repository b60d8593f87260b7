"""The verbs of webhooks are the same in process and over the wire."""

import inspect

from braidmq.broker.localwebhooks import LocalWebhooks
from braidmq.broker.webhookverbs import WebhookVerbs


def test_the_broker_in_process_has_every_verb_with_its_arguments():
    for name, verb in vars(WebhookVerbs).items():
        if inspect.iscoroutinefunction(verb):
            assert inspect.signature(getattr(LocalWebhooks, name)) == inspect.signature(verb)
