"""What Schemathesis cannot do by itself."""

import schemathesis


@schemathesis.hook.apply_to(operation_id="createFile")
def map_body(context, body):
    """Sends an object in a form as the document says (`deepObject`): as fields with names such as `a[b]`."""
    if isinstance(body, dict) and isinstance(expiry := body.get("expires_after"), dict) and expiry:
        rest = {name: value for name, value in body.items() if name != "expires_after"}
        return rest | {f"expires_after[{name}]": value for name, value in expiry.items()}
    return body
