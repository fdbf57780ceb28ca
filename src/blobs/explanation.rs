//! Translates errors of a bucket into plain messages that include what to change.

use std::error::Error as StdError;

use super::clients::Place;
use super::signed::element;
use super::{Error, Result, SetupError};

/// Substrings of an error's text, and what they mean.
const MEANINGS: &[(&[&str], &str)] = &[
    (
        &["/computeMetadata/"],
        "no keys were found: GOOGLE_SERVICE_ACCOUNT (a file), GOOGLE_SERVICE_ACCOUNT_KEY and the application default \
         credentials were looked for, and the instance metadata service gives none",
    ),
    (
        &["/metadata/identity"],
        "no keys were found: AZURE_STORAGE_ACCOUNT_KEY, a SAS token and a client secret were looked for, and the \
         managed identity service gives none",
    ),
    (
        &["<Code>InvalidAccessKeyId<"],
        "the store does not know the access key: check where the keys come from, and that they belong to this endpoint",
    ),
    (
        &["<Code>SignatureDoesNotMatch<", "<Code>AuthFailure<", "Server failed to authenticate the request"],
        "the signature does not match: the secret key is another, or something on the way changes the request's host or path",
    ),
    (
        &["<Code>ExpiredToken<", "<Code>TokenRefreshRequired<"],
        "the session token has expired: get new keys; those of a web identity, a container or an instance are renewed by themselves",
    ),
    (&["<Code>InvalidToken<", "<Code>InvalidClientTokenId<"], "the session token does not belong to the access key"),
    (
        &["<Code>RequestTimeTooSkewed<", "<Code>RequestExpired<"],
        "this machine's clock and the store's differ by too much: set the clock, by NTP for instance",
    ),
    (
        &[
            "<Code>AccessDenied<",
            "<Code>AllAccessDisabled<",
            "AuthorizationPermissionMismatch",
            "AuthorizationFailure",
            "403 Forbidden",
        ],
        "the keys do not have the permission: docs/operations.md lists those that are needed",
    ),
    (
        &["<Code>NoSuchBucket<", "ContainerNotFound", "The specified bucket does not exist"],
        "the bucket does not exist: make it",
    ),
    (&["<Code>InvalidBucketName<"], "the store does not take a bucket of this name"),
    (
        &["invalid peer certificate", "certificate verify failed"],
        "the server's TLS certificate is not trusted: put its CA among the system's or into the file that SSL_CERT_FILE \
         names; one for another host name is no use (a bucket with dots has none when it is addressed by host)",
    ),
    (
        &["received corrupt message", "InvalidContentType", "wrong version number"],
        "the server does not speak TLS: is the endpoint http:// instead of https://?",
    ),
    (
        &[
            "HTTP request to an HTTPS server",
            "plain HTTP request was sent to HTTPS port",
            "Client sent an HTTP request",
        ],
        "the server speaks TLS: is the endpoint https:// instead of http://?",
    ),
    (&["failed to lookup address", "dns error", "Name or service not known"], "the host's name cannot be resolved"),
    (&["Connection refused"], "nothing listens there: is the store running, and are host and port right?"),
    (&["Network is unreachable", "No route to host", "Host is unreachable"], "there is no route to the host"),
    (&["operation timed out", "deadline has elapsed"], "there was no answer in time"),
];

/// Adds an explanation to an error at startup. Errors that are already self-explanatory are returned as is.
pub(super) fn explain(error: Error, place: &Place, other_region: Option<&str>) -> Error {
    let (Error::Remote(_) | Error::Setup(SetupError::NoBucket(_))) = error else { return error };
    let text = chain(&error);
    let region = other_region.map(str::to_owned).or_else(|| named_region(&text));
    let asks_for_keys = text.contains("/latest/api/token") || text.contains("/latest/meta-data");
    let problem = match (region, place.region.as_deref()) {
        (Some(right), Some(ours)) if right != ours => {
            format!("the bucket is in the region {right}, not in {ours}: set AWS_REGION={right}")
        }
        (Some(_) | None, _) if asks_for_keys => {
            "no keys were found: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web \
             identity (AWS_WEB_IDENTITY_TOKEN_FILE), a container's (AWS_CONTAINER_CREDENTIALS_…) and a profile of \
             ~/.aws/credentials were looked for, and the instance metadata service does not answer"
                .to_owned()
        }
        (None, Some(ours)) if is_redirect(&text) => {
            format!(
                "the bucket is in another region than {ours}, or at another endpoint: set AWS_REGION, and AWS_ENDPOINT_URL"
            )
        }
        (Some(_) | None, _) => {
            let found = MEANINGS.iter().find(|it| it.0.iter().any(|part| text.contains(part)));
            found.map_or("it cannot be used", |it| it.1).to_owned()
        }
    };
    let problem = if asks_for_keys || place.credentials.is_empty() {
        problem
    } else {
        format!("{problem} (keys: {})", place.credentials)
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
    outcome.as_ref().is_err_and(|it| chain(it).contains("<Code>NoSuchBucket</Code>"))
}

/// The HTTP status of an error, which `object_store` exposes only in its text.
pub(super) fn status(text: &str) -> Option<u16> {
    text.split_once("status code: ")?.1.get(..3)?.parse().ok()
}

/// The error's message followed by those of its sources.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        text = format!("{text}: {it}");
        cause = it.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answer: &str) -> String {
        let source = answer.to_owned().into();
        let error = Error::Remote(object_store::Error::Generic { store: "S3", source });
        let place = Place {
            name: "s3://b at host:1".to_owned(),
            credentials: "AWS_ACCESS_KEY_ID".to_owned(),
            region: Some("us-east-1".to_owned()),
        };
        explain(error, &place, None).to_string()
    }

    #[test]
    fn what_a_store_answers_is_said_in_plain_words() {
        for (answer, hint) in [
            ("<Error><Code>InvalidAccessKeyId</Code></Error>", "does not know the access key"),
            ("<Code>SignatureDoesNotMatch</Code>", "secret key"),
            ("<Code>RequestTimeTooSkewed</Code>", "clock"),
            ("<Code>ExpiredToken</Code>", "expired"),
            ("<Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region>", "AWS_REGION=eu-west-1"),
            ("Received redirect without LOCATION, this", "AWS_REGION"),
            ("invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
            ("received corrupt message of type InvalidContentType", "http://"),
            ("PUT http://169.254.169.254/latest/api/token", "no keys were found"),
            ("tcp connect error: Connection refused (os error 111)", "nothing listens"),
            ("GET http://metadata/computeMetadata/v1/x: Connection refused", "GOOGLE_SERVICE_ACCOUNT"),
            ("GET http://169.254.169.254/metadata/identity/oauth2/token", "AZURE_STORAGE_ACCOUNT_KEY"),
            ("something new", "cannot be used"),
        ] {
            let said = said(answer);
            assert!(said.contains(hint) && said.starts_with("s3://b at host:1: "), "{said}");
        }
    }
}
