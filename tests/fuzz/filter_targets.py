"""No matter what a policy or a message holds, it is taken or refused, and asking never raises.

The functions here are fed by hypothesis; they take bytes, so that atheris can feed them as well.
"""

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.filter_policy import FilterPolicy, Scope, attribute_texts, decode_body
from braidmq.broker.selectors import Selector
from tests.unit.broker.test_filter_policy_model import texts_at

__all__ = ["check_policy", "check_selector"]

ERROR_CHARACTERS_MAX = 250
NAMES = ("a", "b", "a.b", "")


def check_policy(policy: bytes, message: bytes) -> bool:
    """Make the policy in every way, and ask it about the message; whether it was one."""
    taken = False
    for scope in Scope:
        for strict in (False, True):
            try:
                compiled = FilterPolicy(policy, scope, strict=strict)
            except InvalidArgument as error:
                assert str(error).startswith("filter policy")
                assert len(str(error)) < ERROR_CHARACTERS_MAX
                continue
            taken = True
            again = FilterPolicy(compiled.document, scope, strict=strict)
            assert again.document == compiled.document
            check_message(compiled, again, message)
    return taken


def check_message(policy: FilterPolicy, again: FilterPolicy, message: bytes) -> None:
    """The answer does not depend on how the policy was made, and the index would find it."""
    keys = policy.index_keys()
    assert again.index_keys() == keys
    text = message.decode(errors="replace")
    for headers in ({}, {name: text for name in NAMES}, {name: message for name in NAMES}):
        answer = policy.matches(headers, message)
        assert answer in (True, False) and again.matches(headers, message) is answer
        if not answer or keys is None:
            continue
        if policy.scope is Scope.BODY:
            document = decode_body(message)
            assert document is not None
            assert any(each in texts_at(document, path) for path, each in keys)
        else:
            texts = {name: attribute_texts(value) for name, value in headers.items()}
            assert any(each in texts.get(path[0], ()) for path, each in keys)
    if policy.scope is Scope.ATTRIBUTES:
        for kind in ("String", "String.Array", "Number", "Binary", text[:20]):
            policy.matches_attributes(dict.fromkeys(NAMES, text), dict.fromkeys(NAMES, kind))


def check_selector(selector: bytes, message: bytes) -> bool:
    """The same for a selector, which also comes as bytes that may be no text."""
    text = selector.decode(errors="surrogateescape")
    try:
        compiled = Selector.parse(text)
    except InvalidArgument as error:
        assert str(error).startswith("selector")
        assert len(str(error)) < ERROR_CHARACTERS_MAX
        return False
    value = message.decode(errors="replace")
    for headers in (
        {},
        dict.fromkeys(compiled.names, value),
        dict.fromkeys(compiled.names, message),
    ):
        answer = compiled.matches(headers)
        assert answer in (True, False)
        keys = compiled.index_keys()
        if answer and keys is not None:
            assert any(headers.get(path[0]) == each for path, each in keys)
    return True
