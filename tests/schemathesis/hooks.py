"""A serializer that Schemathesis does not have."""

from schemathesis.transport.requests import REQUESTS_TRANSPORT, multipart_serializer


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
