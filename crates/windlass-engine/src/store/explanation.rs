//! Translates errors of a bucket into plain messages that include what to change.

use windlass_types::ErrorChain;

use super::clients::Place;
use super::signed::element;
use super::{Error, Result, SetupError};

/// Substrings of an error's text, and their explanations.
const MEANINGS: &[(&[&str], &str)] = &[
    (
        &["/computeMetadata/"],
        "no credentials were found: tried GOOGLE_SERVICE_ACCOUNT (a file), GOOGLE_SERVICE_ACCOUNT_KEY, the application \
         default credentials and the instance metadata service",
    ),
    (
        &["/metadata/identity"],
        "no credentials were found: tried AZURE_STORAGE_ACCOUNT_KEY, a SAS token, a client secret and the managed \
         identity service",
    ),
    (
        &["<Code>RequestTimeTooSkewed<", "<Code>RequestExpired<", "Request date header too old"],
        "the clocks of this machine and the store differ by too much: set the clock, for example by NTP",
    ),
    (
        &["<Code>InvalidAccessKeyId<"],
        "unknown access key: check where the credentials come from, and that they belong to this endpoint",
    ),
    (
        &["<Code>SignatureDoesNotMatch<", "<Code>AuthFailure<", "Server failed to authenticate the request"],
        "the signature does not match: the secret key is wrong, or an intermediary rewrites the request's host or path",
    ),
    (
        &["<Code>ExpiredToken<", "<Code>TokenRefreshRequired<"],
        "the session token has expired: get new credentials; those of a web identity, a container or an instance are \
         renewed automatically",
    ),
    (&["<Code>InvalidToken<", "<Code>InvalidClientTokenId<"], "the session token does not belong to the access key"),
    (
        &["<Code>KMS.", "kms:GenerateDataKey", "kms:Decrypt"],
        "the bucket's encryption key cannot be used: enable it in KMS, and allow these credentials kms:GenerateDataKey \
         and kms:Decrypt in its policy",
    ),
    (
        &["<Code>InvalidObjectState<"],
        "the object is archived: restore it, and remove the lifecycle rule that moves objects to another storage class",
    ),
    (
        &[
            "<Code>AccessDenied<",
            "<Code>AllAccessDisabled<",
            "AuthorizationPermissionMismatch",
            "AuthorizationFailure",
            "403 Forbidden",
        ],
        "the credentials lack a required permission: all of them are listed in docs/operations.md",
    ),
    (
        &["<Code>NoSuchBucket<", "ContainerNotFound", "The specified bucket does not exist"],
        "the bucket does not exist: create it",
    ),
    (&["<Code>InvalidBucketName<"], "the store does not accept this bucket name"),
    (
        &["invalid peer certificate", "certificate verify failed"],
        "the server's TLS certificate is not trusted: add its CA to the system's CA certificates or to the file in \
         SSL_CERT_FILE; the certificate must match the host name (with virtual-hosted-style requests, none matches a \
         bucket name with dots)",
    ),
    (
        &["received corrupt message", "InvalidContentType", "wrong version number"],
        "the server does not speak TLS: should the endpoint be http:// instead of https://?",
    ),
    (
        &[
            "HTTP request to an HTTPS server",
            "plain HTTP request was sent to HTTPS port",
            "Client sent an HTTP request",
        ],
        "the server requires TLS: should the endpoint be https:// instead of http://?",
    ),
    (&["failed to lookup address", "dns error", "Name or service not known"], "the host name cannot be resolved"),
    (&["Connection refused"], "nothing is listening there: is the store running, and are host and port correct?"),
    (&["Network is unreachable", "No route to host", "Host is unreachable"], "there is no route to the host"),
    (&["operation timed out", "deadline has elapsed"], "the request timed out"),
];

/// Adds an explanation to an error at startup. Errors that are already self-explanatory are returned as is.
pub(super) fn explain(error: Error, place: &Place, other_region: Option<&str>) -> Error {
    let (Error::Remote(_) | Error::Setup(SetupError::NoBucket(_))) = error else { return error };
    let text = ErrorChain(&error).to_string();
    let region = other_region.map(str::to_owned).or_else(|| named_region(&text));
    let seeks_credentials = text.contains("/latest/api/token") || text.contains("/latest/meta-data");
    let problem = match (region, place.region.as_deref()) {
        (Some(right), Some(ours)) if right != ours => {
            format!("the bucket is in the region {right}, not in {ours}: set AWS_REGION={right}")
        }
        (Some(_) | None, _) if seeks_credentials => {
            "no credentials were found: tried AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity \
             (AWS_WEB_IDENTITY_TOKEN_FILE), a container's credentials (AWS_CONTAINER_CREDENTIALS_…), a profile in \
             ~/.aws/credentials and the instance metadata service"
                .to_owned()
        }
        (None, Some(ours)) if is_redirect(&text) => {
            format!(
                "the bucket is in another region than {ours} or at another endpoint: set AWS_REGION or AWS_ENDPOINT_URL"
            )
        }
        (Some(_) | None, _) => {
            let found = MEANINGS.iter().find(|it| it.0.iter().any(|part| text.contains(part)));
            found.map_or("the bucket cannot be used", |it| it.1).to_owned()
        }
    };
    let problem = if seeks_credentials || place.credentials.is_empty() {
        problem
    } else {
        format!("{problem} (credentials: {})", place.credentials)
    };
    SetupError::Unusable { place: place.name.clone(), problem, source: Box::new(error) }.into()
}

/// Whether the store reports that the bucket is in another region or at another endpoint.
pub(super) fn is_redirect(text: &str) -> bool {
    text.contains("Received redirect") || text.contains("PermanentRedirect") || text.contains("301 Moved Permanently")
}

/// The region that the store reports as the right one.
fn named_region(text: &str) -> Option<String> {
    let is_about_it = text.contains("<Code>AuthorizationHeaderMalformed<") || is_redirect(text);
    let region = element(text, "Region").filter(|_| is_about_it)?;
    Some(region.to_owned()).filter(|it| !it.is_empty())
}

/// Whether the bucket does not exist.
pub(super) fn is_missing(outcome: &Result<()>) -> bool {
    // The S3 error code is only available in the text of the response.
    outcome.as_ref().is_err_and(|it| ErrorChain(it).to_string().contains("<Code>NoSuchBucket</Code>"))
}

/// The HTTP status of an error, which `object_store` exposes only in its text.
pub(super) fn status(text: &str) -> Option<u16> {
    text.split_once("status code: ")?.1.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(response: &str) -> String {
        let source = response.to_owned().into();
        let error = Error::Remote(object_store::Error::Generic { store: "S3", source });
        let place = Place {
            name: "s3://b at host:1".to_owned(),
            credentials: "AWS_ACCESS_KEY_ID".to_owned(),
            region: Some("us-east-1".to_owned()),
        };
        explain(error, &place, None).to_string()
    }

    #[test]
    fn errors_from_a_store_are_explained() {
        for (response, hint) in [
            ("<Error><Code>InvalidAccessKeyId</Code></Error>", "unknown access key"),
            ("<Code>SignatureDoesNotMatch</Code>", "secret key"),
            ("<Code>RequestTimeTooSkewed</Code>", "clock"),
            ("<Code>ExpiredToken</Code>", "expired"),
            ("<Code>KMS.DisabledException</Code>", "enable it in KMS"),
            (
                "<Code>AccessDenied</Code><Message>User: arn:aws:iam::1:user/w is not authorized to perform: \
                 kms:GenerateDataKey on the resource arn:aws:kms:eu-central-1:1:key/k</Message>",
                "kms:GenerateDataKey and kms:Decrypt",
            ),
            ("<Code>AccessDenied</Code>", "lack a required permission"),
            ("<Code>InvalidObjectState</Code>", "archived"),
            ("<Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region>", "AWS_REGION=eu-west-1"),
            ("Received redirect without LOCATION, this", "AWS_REGION"),
            ("invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
            ("received corrupt message of type InvalidContentType", "http://"),
            ("PUT http://169.254.169.254/latest/api/token", "no credentials were found"),
            ("tcp connect error: Connection refused (os error 111)", "nothing is listening"),
            ("GET http://metadata/computeMetadata/v1/x: Connection refused", "GOOGLE_SERVICE_ACCOUNT"),
            ("GET http://169.254.169.254/metadata/identity/oauth2/token", "AZURE_STORAGE_ACCOUNT_KEY"),
            ("something new", "cannot be used"),
        ] {
            let message = explained(response);
            assert!(message.contains(hint) && message.starts_with("s3://b at host:1: "), "{message}");
        }
    }
}
