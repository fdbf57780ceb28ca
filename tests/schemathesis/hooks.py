"""What Schemathesis does not know: a serializer, and headers that a schema cannot make valid."""

import schemathesis
from schemathesis.transport.requests import REQUESTS_TRANSPORT, multipart_serializer

# A digest is valid for one body only, and a key for one request.
DEPENDENT = ["content-digest", "repr-digest", "content-md5", "idempotency-key"]


@schemathesis.hook
def before_call(context, case, kwargs):
    """Removes headers whose validity depends on the rest of a request that should be valid."""
    if case.meta is not None and case.meta.generation.mode.is_positive and case.headers:
        for name in DEPENDENT:
            case.headers.pop(name, None)


@REQUESTS_TRANSPORT.serializer("multipart/form-data")
def deep_objects(context, form):
    """Sends objects in forms in the documented style (`deepObject`): as fields with names such as `a[b]`."""
    if isinstance(form, dict):
        fields = {}
        for name, value in form.items():
            is_object = isinstance(value, dict) and value
            fields |= {f"{name}[{inner}]": it for inner, it in value.items()} if is_object else {name: value}
        form = fields
    return multipart_serializer(context, form)
