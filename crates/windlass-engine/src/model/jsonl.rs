//! The purposes that accept only JSON lines, and the checks of a file's name and content for them.

use windlass_types::{AnyPurpose, Filename};

use super::{BadLine, JsonLines};

/// The maximum number of requests in a batch, one per line.
const BATCH_REQUESTS: u64 = 50_000;

/// What is checked of a file whose purpose accepts only JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JsonlCheck {
    /// Nothing.
    Off,
    /// The file's name.
    #[default]
    Name,
    /// The file's name, and each of its lines.
    Lines,
}

/// Why a file is not accepted for its purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotJsonl {
    /// Its name does not end in `.jsonl`. The message is OpenAI's, with the name added.
    #[error("invalid file format for {api} API. Must be .jsonl, but the file is named '{}'", filename.as_str())]
    Name {
        /// The API that reads such files.
        api: &'static str,
        /// The file's name.
        filename: Filename,
    },
    /// One of its lines is not a JSON object.
    #[error("{line}; a file for the purpose '{purpose}' must have one JSON object per line")]
    Line {
        /// The file's purpose.
        purpose: AnyPurpose,
        /// The invalid line, and what is wrong with it.
        line: BadLine,
    },
    /// It has too many lines.
    #[error(
        "line {} exceeds the limit: a file for the purpose 'batch' may have at most {BATCH_REQUESTS} requests, one per \
         line",
        BATCH_REQUESTS + 1
    )]
    TooManyRequests,
}

/// The API that reads files of this purpose, if they are JSON lines.
fn api(purpose: AnyPurpose) -> Option<&'static str> {
    match purpose {
        AnyPurpose::Batch => Some("Batch"),
        AnyPurpose::FineTune => Some("Fine-Tuning"),
        AnyPurpose::Assistants
        | AnyPurpose::Vision
        | AnyPurpose::UserData
        | AnyPurpose::Evals
        | AnyPurpose::AssistantsOutput
        | AnyPurpose::BatchOutput
        | AnyPurpose::FineTuneResults => None,
    }
}

impl JsonlCheck {
    /// Checks a file's name against its purpose. The case of its extension is ignored.
    ///
    /// # Errors
    /// [`NotJsonl::Name`] if the purpose accepts only JSON lines, and the name does not end in `.jsonl`.
    pub fn check_name(self, purpose: AnyPurpose, filename: &Filename) -> Result<(), NotJsonl> {
        let (Self::Name | Self::Lines, Some(api)) = (self, api(purpose)) else { return Ok(()) };
        let name = filename.as_str().as_bytes();
        if name.last_chunk().is_some_and(|it: &[u8; 6]| it.eq_ignore_ascii_case(b".jsonl")) {
            return Ok(());
        }
        Err(NotJsonl::Name { api, filename: filename.clone() })
    }

    /// Whether the lines of a file have to be checked. True if that depends on a purpose that is not known yet.
    pub fn reads_lines(self, purpose: Option<AnyPurpose>) -> bool {
        self == Self::Lines && purpose.is_none_or(|it| api(it).is_some())
    }
}

impl NotJsonl {
    /// Checks the lines of a file that were read so far against its purpose.
    ///
    /// # Errors
    /// If the purpose accepts only JSON lines, and a line is invalid or there are too many.
    pub fn judge(purpose: AnyPurpose, lines: &JsonLines) -> Result<(), Self> {
        if api(purpose).is_none() {
            return Ok(());
        }
        let most = if purpose == AnyPurpose::Batch { BATCH_REQUESTS } else { u64::MAX };
        match lines.bad() {
            // The first invalid line is reported, however the bytes arrived.
            Some(line) if line.line <= most => Err(Self::Line { purpose, line: line.clone() }),
            _ if lines.objects() > most => Err(Self::TooManyRequests),
            Some(line) => Err(Self::Line { purpose, line: line.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(check: JsonlCheck, purpose: AnyPurpose, name: &str) -> Result<(), String> {
        check.check_name(purpose, &name.parse().unwrap()).map_err(|it| it.to_string())
    }

    #[test]
    fn batch_and_fine_tune_require_names_that_end_in_jsonl_in_any_case() {
        for check in [JsonlCheck::Name, JsonlCheck::Lines] {
            for purpose in [AnyPurpose::Batch, AnyPurpose::FineTune] {
                for right in ["a.jsonl", "A.JSONL", "b.JsonL", ".jsonl", "dir/c.tar.jsonl", "你好.jsonl"] {
                    assert_eq!(name(check, purpose, right), Ok(()));
                }
                for wrong in ["a.json", "a.jsonl.gz", "jsonl", "a.jsonl ", "a_jsonl", "a.ſonl", "好", "upload"] {
                    let error = name(check, purpose, wrong).unwrap_err();
                    assert!(error.ends_with(&format!("Must be .jsonl, but the file is named '{wrong}'")), "{error}");
                }
            }
            for purpose in [AnyPurpose::Assistants, AnyPurpose::Vision, AnyPurpose::UserData, AnyPurpose::Evals] {
                assert_eq!(name(check, purpose, "a.json"), Ok(()));
            }
        }
        assert_eq!(name(JsonlCheck::Off, AnyPurpose::Batch, "a.json"), Ok(()));
        let error = name(JsonlCheck::Name, AnyPurpose::FineTune, "a.txt").unwrap_err();
        assert!(error.starts_with("invalid file format for Fine-Tuning API. Must be .jsonl"), "{error}");
    }

    #[test]
    fn lines_are_read_only_if_the_purpose_may_require_json_lines() {
        assert!(JsonlCheck::Lines.reads_lines(None));
        assert!(JsonlCheck::Lines.reads_lines(Some(AnyPurpose::Batch)));
        assert!(JsonlCheck::Lines.reads_lines(Some(AnyPurpose::FineTune)));
        assert!(!JsonlCheck::Lines.reads_lines(Some(AnyPurpose::UserData)));
        assert!(!JsonlCheck::Name.reads_lines(None));
        assert!(!JsonlCheck::Off.reads_lines(Some(AnyPurpose::Batch)));
    }

    fn judged(purpose: AnyPurpose, text: &str) -> Result<(), NotJsonl> {
        let mut lines = JsonLines::default();
        lines.take(text.as_bytes());
        lines.end();
        NotJsonl::judge(purpose, &lines)
    }

    #[test]
    fn a_batch_has_at_most_50_000_requests_and_the_first_invalid_line_is_reported() {
        let most = "{}\n".repeat(50_000);
        assert_eq!(judged(AnyPurpose::Batch, &most), Ok(()));
        assert_eq!(judged(AnyPurpose::Batch, most.trim_end()), Ok(()));
        let more = most.clone() + "{}\n";
        assert_eq!(judged(AnyPurpose::FineTune, &more), Ok(()));
        let error = judged(AnyPurpose::Batch, &more).unwrap_err();
        assert_eq!(error, NotJsonl::TooManyRequests);
        assert!(error.to_string().starts_with("line 50001 exceeds the limit: "), "{error}");
        // The first of two errors is reported.
        assert_eq!(judged(AnyPurpose::Batch, &(more.clone() + "[]\n")), Err(NotJsonl::TooManyRequests));
        assert_eq!(judged(AnyPurpose::Batch, &(most.clone() + "{]\n")), Err(NotJsonl::TooManyRequests));
        let error = judged(AnyPurpose::Batch, &("[]\n".to_owned() + &more)).unwrap_err().to_string();
        assert!(error.starts_with("line 1 is not a JSON object: "), "{error}");
        assert!(error.ends_with("; a file for the purpose 'batch' must have one JSON object per line"), "{error}");
        let error = judged(AnyPurpose::Batch, &(most + "[]\n")).unwrap_err().to_string();
        assert!(error.starts_with("line 50001 is not a JSON object: "), "{error}");
    }

    #[test]
    fn other_purposes_accept_any_lines() {
        assert_eq!(judged(AnyPurpose::UserData, "[]\nx"), Ok(()));
        assert_eq!(judged(AnyPurpose::Evals, "[]\nx"), Ok(()));
    }
}
