//! Query strings: one reader for the lists' parameters. A parameter without a value counts as absent, and unknown ones
//! are ignored.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::HttpRequest;
use url::form_urlencoded;

use super::error::ApiError;
use super::number::whole;
use crate::domain::{Order, PageLimit, PageRequest, PurposeFilter, Shown};

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

    /// `after`. A text that is not an id is treated like an unknown id.
    pub fn after<Id: FromStr>(&self) -> Result<Option<Id>, ApiError> {
        self.get("after")?.map(|text| text.parse().map_err(|_| no_such_cursor(text))).transpose()
    }

    /// `limit`.
    pub fn limit(&self) -> Result<PageLimit, ApiError> {
        let Some(text) = self.get("limit")? else { return Ok(PageLimit::default()) };
        let limit = whole(text).ok().and_then(|it| PageLimit::try_from(it).ok());
        limit.ok_or_else(|| {
            let was = Shown(text);
            ApiError::invalid("limit", format!("'limit' must be a whole number between 1 and 10000, but was '{was}'."))
        })
    }

    /// `purpose`.
    pub fn purpose(&self) -> Result<Option<PurposeFilter>, ApiError> {
        self.parsed("purpose")
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
