"""A lease may wait five minutes, which a test does not: any longer wait becomes a short one."""

import schemathesis

WAIT_MS = 20
WAIT_MS_MAX = 300_000


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if isinstance(body, dict) and type(body.get("wait_ms")) is int and WAIT_MS < body["wait_ms"] <= WAIT_MS_MAX:
        body["wait_ms"] = WAIT_MS
