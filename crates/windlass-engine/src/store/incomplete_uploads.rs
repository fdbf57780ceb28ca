//! Incomplete multipart uploads of a bucket. They are found by listing: if the response to the request that began one
//! was lost, its id is unknown.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::SystemTime;

use bytes::Bytes;
use chrono::DateTime;
use http::Method;
use object_store::path::Path;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::signed::{Request, Requests};
use super::{Error, Result};

/// The maximum number of consecutive empty pages.
const MAX_EMPTY_PAGES: usize = 1000;

/// A multipart upload that was begun, and neither completed nor aborted.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadElement {
    /// The key of the object that it would become.
    pub key: String,
    /// The store's id of the upload.
    pub upload_id: String,
    initiated: Option<String>,
}

impl UploadElement {
    /// When it was begun, by the store's clock, if the store reports it.
    pub fn begun(&self) -> Option<SystemTime> {
        DateTime::parse_from_rfc3339(self.initiated.as_deref()?).ok().map(SystemTime::from)
    }
}

/// The position of a page in the listing: the key and the upload id to start after.
type Marker = (String, String);

/// A page of `ListMultipartUploads`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Page {
    #[serde(rename = "Upload")]
    uploads: Vec<UploadElement>,
    is_truncated: bool,
    encoding_type: String,
    next_key_marker: String,
    next_upload_id_marker: String,
}

impl Page {
    fn parse(text: &str) -> Result<Self> {
        let mut page: Self = quick_xml::de::from_str(text).map_err(|error| Error::Unlisted(error.to_string()))?;
        if page.encoding_type.eq_ignore_ascii_case("url") {
            page.next_key_marker = decode(&page.next_key_marker);
            for upload in &mut page.uploads {
                upload.key = decode(&upload.key);
            }
        }
        Ok(page)
    }
}

/// Decodes a URL-encoded key, in which a plus is a space. Some stores encode keys although this was not requested.
fn decode(key: &str) -> String {
    let key = if key.contains('+') { Cow::Owned(key.replace('+', " ")) } else { Cow::Borrowed(key) };
    percent_decode_str(&key).decode_utf8_lossy().into_owned()
}

/// Lists the incomplete multipart uploads of objects whose keys begin with `prefix`, page by page.
pub(super) struct Pages {
    requests: Requests,
    prefix: String,
    /// Where the next page begins; `None` after the last page.
    from: Option<Marker>,
    /// Markers of all previous pages: a listing that returns one again does not terminate.
    seen: HashSet<Marker>,
    empty_in_a_row: usize,
    /// Whether the last page was truncated without a usable marker for the next one.
    broken: bool,
}

impl Pages {
    pub(super) fn new(requests: Requests, prefix: String) -> Self {
        Self { requests, prefix, from: Some(Marker::default()), seen: HashSet::new(), empty_in_a_row: 0, broken: false }
    }

    /// The next page; `None` after the last one.
    ///
    /// # Errors
    /// [`Error::Unlisted`] if the store rejects the request or its pagination is broken. Other errors are transient.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<UploadElement>>> {
        if self.broken {
            self.broken = false;
            return Err(Error::Unlisted("its list is truncated and has no usable marker for the next page".to_owned()));
        }
        let Some(from) = self.from.take() else { return Ok(None) };
        let page = self.fetch(&from).await?;
        self.advance(from, &page);
        // Some stores ignore the prefix.
        let ours = page.uploads.into_iter().filter(|it| it.key.starts_with(&self.prefix));
        Ok(Some(ours.collect()))
    }

    async fn fetch(&self, (key, upload): &Marker) -> Result<Page> {
        let mut query = vec![("uploads", String::new()), ("prefix", self.prefix.clone())];
        if !key.is_empty() {
            query.extend([("key-marker", key.clone()), ("upload-id-marker", upload.clone())]);
        }
        let (method, path) = (Method::GET, Path::default());
        let request = Request { method, path, query, header: None, body: Bytes::new() };
        // Boxed to keep the sweeper's future small.
        let response = Box::pin(self.requests.send(request)).await?;
        if response.status.is_success() {
            Page::parse(&response.body)
        } else if response.is_transient() {
            Err(Error::Listing(response.reason()))
        } else {
            Err(Error::Unlisted(response.reason()))
        }
    }

    fn advance(&mut self, from: Marker, page: &Page) {
        if !page.is_truncated {
            return;
        }
        self.empty_in_a_row = if page.uploads.is_empty() { self.empty_in_a_row + 1 } else { 0 };
        let next = (page.next_key_marker.clone(), page.next_upload_id_marker.clone());
        self.seen.insert(from);
        self.broken = next.0.is_empty() || self.seen.contains(&next) || self.empty_in_a_row > MAX_EMPTY_PAGES;
        self.from = (!self.broken).then_some(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_parsed_with_and_without_uploads() {
        let page = Page::parse(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Bucket>b</Bucket><KeyMarker></KeyMarker><NextKeyMarker>k2</NextKeyMarker>
              <NextUploadIdMarker>u2</NextUploadIdMarker><MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>
              <Upload><Key>k1</Key><UploadId>u1</UploadId><Initiated>2026-11-10T20:48:33.000Z</Initiated></Upload>
              <Upload><Key>k2</Key><UploadId>u2</UploadId><StorageClass>STANDARD</StorageClass></Upload>
            </ListMultipartUploadsResult>"#,
        )
        .unwrap();
        assert_eq!(page.uploads.iter().map(|it| it.upload_id.as_str()).collect::<Vec<_>>(), ["u1", "u2"]);
        assert!(page.uploads[0].begun().is_some() && page.uploads[1].begun().is_none());
        assert_eq!((page.next_key_marker.as_str(), page.next_upload_id_marker.as_str()), ("k2", "u2"));

        let empty = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
        let page = Page::parse(empty).unwrap();
        assert!(page.uploads.is_empty() && !page.is_truncated);
    }

    #[test]
    fn url_encoded_keys_are_decoded() {
        let page = Page::parse(
            "<ListMultipartUploadsResult><EncodingType>url</EncodingType><NextKeyMarker>a%2Fc+d</NextKeyMarker>\
             <Upload><Key>a%2Fb%2Bc+%C3%A9</Key><UploadId>u+1</UploadId></Upload></ListMultipartUploadsResult>",
        )
        .unwrap();
        assert_eq!(page.uploads[0].key, "a/b+c é");
        assert_eq!(page.uploads[0].upload_id, "u+1");
        assert_eq!(page.next_key_marker, "a/c d");
    }
}
