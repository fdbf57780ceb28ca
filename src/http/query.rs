//! Parses query strings. A parameter without a value counts as absent, and unknown parameters are ignored.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::HttpRequest;
use url::form_urlencoded;
use windlass_types::{AnyPurpose, Order, PageLimit, PageRequest, Shown};

use super::error::ApiError;
use super::number::whole;

/// The maximum length of `response-content-disposition`, in bytes.
const MAX_DISPOSITION_BYTES: usize = 1024;

/// The parameters of a query string that have a value.
pub struct Query(Vec<(String, String)>);

impl From<&HttpRequest> for Query {
    fn from(request: &HttpRequest) -> Self {
        let all = form_urlencoded::parse(request.query_string().as_bytes());
        Self(all.into_owned().filter(|(_, value)| !value.is_empty()).collect())
    }
}

impl Query {
    fn get(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(ApiError::invalid(name, format!("'{name}' is given more than once."))),
        }
    }

    /// Parses `limit`, `order` and `after`. `Id` is the type of the ids of the listed objects.
    ///
    /// # Errors
    /// When a parameter is invalid or given more than once; the error contains its name.
    pub fn page<Id: FromStr>(&self) -> Result<PageRequest<Id>, ApiError> {
        Ok(PageRequest {
            after: self.after()?,
            limit: self.limit()?,
            order: self.parsed("order")?.unwrap_or(Order::Descending),
        })
    }

    /// Parses `after`.
    ///
    /// # Errors
    /// 404 when it is not an id, as for an unknown id; 400 when it is given more than once.
    pub fn after<Id: FromStr>(&self) -> Result<Option<Id>, ApiError> {
        self.get("after")?.map(|text| text.parse().map_err(|_| no_such_cursor(text))).transpose()
    }

    /// Parses `limit`.
    ///
    /// # Errors
    /// 400 when it is out of bounds, not a whole number, or given more than once.
    pub fn limit(&self) -> Result<PageLimit, ApiError> {
        let Some(text) = self.get("limit")? else { return Ok(PageLimit::default()) };
        let limit = whole(text).ok().and_then(|it| PageLimit::try_from(it).ok());
        limit.ok_or_else(|| {
            let was = Shown(text);
            ApiError::invalid("limit", format!("'limit' must be a whole number between 1 and 10000, but was '{was}'."))
        })
    }

    /// Parses `purpose`.
    ///
    /// # Errors
    /// 400 when it is unknown or given more than once.
    pub fn purpose(&self) -> Result<Option<AnyPurpose>, ApiError> {
        self.parsed("purpose")
    }

    /// Parses `response-content-disposition`.
    ///
    /// # Errors
    /// 400 when it is not a value of `Content-Disposition`, or given more than once.
    pub fn content_disposition(&self) -> Result<Option<&str>, ApiError> {
        const NAME: &str = "response-content-disposition";
        let Some(value) = self.get(NAME)? else { return Ok(None) };
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_valid = matches!(kind.as_str(), "attachment" | "inline")
            && value.len() <= MAX_DISPOSITION_BYTES
            && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        let error = || {
            let message = format!(
                "'{NAME}' must be 'attachment' or 'inline', optionally with a file name, in at most \
                 {MAX_DISPOSITION_BYTES} ASCII characters, such as 'attachment; filename=\"a.txt\"', but was '{}'.",
                Shown(value)
            );
            ApiError::invalid(NAME, message)
        };
        if is_valid { Ok(Some(value)) } else { Err(error()) }
    }

    fn parsed<T: FromStr<Err: Display>>(&self, name: &'static str) -> Result<Option<T>, ApiError> {
        self.get(name)?
            .map(|text| text.parse().map_err(|error: T::Err| ApiError::invalid(name, format!("{error} - '{name}'"))))
            .transpose()
    }
}

fn no_such_cursor(text: &str) -> ApiError {
    ApiError::no_such("cursor", "after", text)
}
