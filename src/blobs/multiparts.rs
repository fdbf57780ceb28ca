//! Multipart uploads that a bucket holds half-done: found by listing, since an answer that was lost
//! may have begun one whose id nobody knows. `object_store` has no call for it, only signatures.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::DateTime;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use reqwest::Method;
use serde::Deserialize;

use super::{Error, Result};

/// How long one page of the list may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A multipart upload that was begun, and neither completed nor aborted.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HalfDone {
    /// The object that it would become.
    pub key: String,
    /// The store's name for it.
    pub upload_id: String,
    initiated: Option<String>,
}

impl HalfDone {
    /// When it was begun, by the store's clock, if the store says so.
    pub fn begun(&self) -> Option<SystemTime> {
        DateTime::parse_from_rfc3339(self.initiated.as_deref()?).ok().map(SystemTime::from)
    }
}

/// A page of `ListMultipartUploads`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HalfDonePage {
    /// What is on it.
    #[serde(rename = "Upload")]
    pub uploads: Vec<HalfDone>,
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
}

impl HalfDonePage {
    /// Where the next page begins, if there is one.
    fn next(&self) -> Option<(String, String)> {
        self.is_truncated.then(|| (self.next_key_marker.clone(), self.next_upload_id_marker.clone()))
    }
}

/// Lists what is half-done, of objects whose names begin with `prefix`, page after page.
pub(super) struct Pages {
    store: Arc<AmazonS3>,
    http: reqwest::Client,
    prefix: String,
    /// Where the next page begins; nothing once the last was given.
    from: Option<(String, String)>,
}

impl Pages {
    pub(super) fn new(store: Arc<AmazonS3>, http: reqwest::Client, prefix: String) -> Self {
        Self { store, http, prefix, from: Some(Default::default()) }
    }

    /// The next page.
    ///
    /// # Errors
    /// When the store does not answer, or with something else.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<HalfDone>>> {
        let Some((key, upload)) = self.from.take() else { return Ok(None) };
        let mut query = vec![("uploads", String::new()), ("prefix", self.prefix.clone())];
        if !key.is_empty() {
            query.extend([("key-marker", key), ("upload-id-marker", upload)]);
        }
        let options = SignedUrlOptions::new().with_query(query);
        let url = self.store.signed_url_opts(Method::GET, &Path::default(), 2 * PATIENCE, &options).await?;
        let request = self.http.get(url).timeout(PATIENCE);
        let answer = async { request.send().await?.error_for_status()?.text().await }.await;
        let text = answer.map_err(|error| Error::Listing(error.without_url().to_string()))?;
        let page: HalfDonePage = quick_xml::de::from_str(&text).map_err(|error| Error::Listing(error.to_string()))?;
        self.from = page.next();
        Ok(Some(page.uploads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_and_without_uploads() {
        let page: HalfDonePage = quick_xml::de::from_str(
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
        assert_eq!(page.next(), Some(("k2".to_owned(), "u2".to_owned())));

        let empty = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
        let page: HalfDonePage = quick_xml::de::from_str(empty).unwrap();
        assert!(page.uploads.is_empty() && page.next().is_none());
    }
}
