//! Parses JSON bodies as the API does and with `serde_json`. The results must agree.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use windlass::http::json;
use windlass_types::{CompleteUploadRequest, CreateUploadRequest};

/// The outcome of parsing a body as each type: the value as JSON, or the message of the error.
pub type Outcome = Result<String, String>;

/// More than the longest message of an error, in bytes: it shows only the beginning of what the client sent.
const MESSAGE_BYTES: usize = 1100;

/// Parses a body as each request type.
///
/// # Panics
/// If a result differs from the reference.
pub fn check(body: &[u8]) -> [Outcome; 2] {
    [check_as::<CreateUploadRequest>(body), check_as::<CompleteUploadRequest>(body)]
}

fn check_as<T: DeserializeOwned + Serialize + Debug>(body: &[u8]) -> Outcome {
    let parsed = json::read::<T>(body).map_err(|error| error.to_string());
    let outcome = parsed.map(|it| serde_json::to_string(&it).unwrap());
    match (&outcome, serde_json::from_slice::<T>(body)) {
        // `serde_json` reads a list as an object with its fields in order.
        (Err(message), Ok(_)) => assert!(message.ends_with("but was a list."), "{message:?}"),
        (Ok(accepted), Ok(expected)) => assert_eq!(*accepted, serde_json::to_string(&expected).unwrap()),
        // A byte order mark, or a whole number in a notation that `serde_json` takes for a float.
        (Ok(accepted), Err(_)) => {
            let again = json::read::<T>(accepted.as_bytes()).expect("the result is accepted itself");
            assert_eq!(*accepted, serde_json::to_string(&again).unwrap());
        }
        (Err(message), Err(_)) => {
            assert!(
                !message.is_empty() && message.len() < MESSAGE_BYTES && !message.contains(char::is_control),
                "{message:?}"
            );
        }
    }
    outcome
}
