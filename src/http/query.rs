//! Query strings: one reader for the lists' parameters. What it does not know it leaves alone.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::HttpRequest;
use url::form_urlencoded;

use super::error::ApiError;
use crate::domain::{Order, PageLimit, PageRequest};

/// The parameters of a query string.
pub struct Query(Vec<(String, String)>);

impl From<&HttpRequest> for Query {
    fn from(request: &HttpRequest) -> Self {
        Self(form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect())
    }
}

impl Query {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `limit`, `order` and `after`, for a list of things whose ids are `Id`s.
    ///
    /// # Errors
    /// Names the parameter that cannot be.
    pub fn page<Id: FromStr>(&self) -> Result<PageRequest<Id>, ApiError> {
        Ok(PageRequest {
            after: self.after()?,
            limit: self.limit()?,
            order: self.parsed("order")?.unwrap_or(Order::Descending),
        })
    }

    /// `after`. A text that is no id at all is in no list either.
    pub fn after<Id: FromStr>(&self) -> Result<Option<Id>, ApiError> {
        self.get("after").map(|text| text.parse().map_err(|_| no_such_cursor(text))).transpose()
    }

    /// `limit`.
    pub fn limit(&self) -> Result<PageLimit, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(PageLimit::default()) };
        let limit = text.parse::<i64>().ok().and_then(|it| PageLimit::try_from(it).ok());
        limit.ok_or_else(|| {
            ApiError::invalid("limit", format!("'limit' must be a whole number between 1 and 10000, but was '{text}'."))
        })
    }

    /// `purpose`, a free text in the contract: of a purpose that nobody knows there are no files.
    pub fn purpose(&self) -> Option<String> {
        self.get("purpose").map(str::to_owned)
    }

    fn parsed<T: FromStr<Err: Display>>(&self, name: &'static str) -> Result<Option<T>, ApiError> {
        self.get(name)
            .map(|text| text.parse().map_err(|error: T::Err| ApiError::invalid(name, format!("{error} - '{name}'"))))
            .transpose()
    }
}

fn no_such_cursor(text: &str) -> ApiError {
    ApiError::no_such("cursor", "after", text)
}
