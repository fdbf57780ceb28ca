//! Which MIME types an Upload may declare for its purpose.

use windlass_types::{AnyPurpose, MimeType};

/// Which declared types are accepted for a purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MimePolicy {
    /// According to the contract: the types listed here for `assistants` and `vision`, and any type for the others.
    #[default]
    Contract,
    /// Any type for every purpose.
    Any,
}

/// A MIME type that is not accepted for the purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("files for the purpose '{purpose}' cannot be '{mime_type}'; accepted are {}", accepted.join(", "))]
pub struct MimeTypeNotAccepted {
    /// The purpose of the file.
    pub purpose: AnyPurpose,
    /// The declared type.
    pub mime_type: String,
    /// The accepted types, without aliases.
    pub accepted: Vec<&'static str>,
}

/// A file format.
struct Format {
    /// Its MIME types in OpenAI's documentation.
    listed: &'static [&'static str],
    /// Other MIME types that browsers, operating systems and SDKs use for it.
    aliases: &'static [&'static str],
}

const fn format(listed: &'static [&'static str], aliases: &'static [&'static str]) -> Format {
    Format { listed, aliases }
}

const PNG: Format = format(&["image/png"], &["image/x-png"]);
const JPEG: Format = format(&["image/jpeg"], &["image/jpg", "image/pjpeg"]);
const WEBP: Format = format(&["image/webp"], &[]);
const GIF: Format = format(&["image/gif"], &[]);

/// The formats that file search and the code interpreter can read. Sources: `docs/operations.md`.
#[rustfmt::skip]
const ASSISTANTS: &[Format] = &[
    format(&["text/x-c"], &["text/x-csrc", "text/x-chdr"]),
    format(&["text/x-c++"], &["text/x-c++src", "text/x-c++hdr"]),
    format(&["text/x-csharp"], &[]),
    format(&["text/css"], &[]),
    format(&["text/csv", "application/csv"], &["text/x-csv", "application/x-csv", "text/comma-separated-values",
        "text/x-comma-separated-values", "application/vnd.ms-excel"]),
    format(&["application/msword"], &["application/x-msword", "application/vnd.ms-word",
        "zz-application/zz-winassoc-doc"]),
    format(&["application/vnd.openxmlformats-officedocument.wordprocessingml.document"], &[]),
    GIF,
    format(&["text/x-golang"], &["text/x-go"]),
    format(&["text/html"], &["application/xhtml+xml"]),
    format(&["text/x-java"], &["text/x-java-source"]),
    JPEG,
    format(&["text/javascript"], &["application/javascript", "application/x-javascript", "text/x-javascript"]),
    format(&["application/json"], &["text/json", "application/schema+json"]),
    format(&["text/markdown"], &["text/x-markdown"]),
    format(&["application/pdf"], &["application/x-pdf", "application/acrobat", "application/nappdf", "image/pdf"]),
    format(&["text/x-php"], &["text/php", "application/x-php", "application/x-httpd-php"]),
    // For .pkl, and for files without a known type.
    format(&["application/octet-stream"], &[]),
    PNG,
    format(&["application/vnd.openxmlformats-officedocument.presentationml.presentation"], &[]),
    format(&["text/x-python", "text/x-script.python"], &["text/x-python3", "text/x-python-script",
        "application/x-python", "application/x-python-code"]),
    format(&["text/x-ruby"], &["application/x-ruby", "text/x-ruby-script"]),
    format(&["application/x-sh"], &["text/x-sh", "text/x-shellscript", "application/x-shellscript"]),
    format(&["application/x-tar"], &["application/tar", "application/x-gtar", "application/gzip",
        "application/x-gzip", "application/x-compressed-tar", "application/x-tgz"]),
    format(&["text/x-tex"], &["application/x-tex"]),
    // The last five are listed for .ts in tables of file extensions.
    format(&["application/typescript"], &["application/x-typescript", "text/typescript", "text/x-typescript",
        "video/mp2t", "video/vnd.dlna.mpeg-tts", "application/x-linguist", "text/vnd.qt.linguist",
        "text/vnd.trolltech.linguist"]),
    format(&["text/plain"], &[]),
    WEBP,
    format(&["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"], &[]),
    format(&["application/xml", "text/xml"], &[]),
    format(&["application/zip"], &["application/x-zip", "application/x-zip-compressed"]),
];

/// The image formats that vision models can read.
const VISION: &[Format] = &[PNG, JPEG, WEBP, GIF];

impl MimePolicy {
    /// Checks a declared type against the purpose, ignoring parameters and case.
    ///
    /// # Errors
    /// If only certain types are accepted for the purpose, and this is not one of them.
    pub fn check(self, purpose: AnyPurpose, mime_type: &MimeType) -> Result<(), MimeTypeNotAccepted> {
        let formats = match (self, purpose) {
            (Self::Any, _)
            | (
                Self::Contract,
                AnyPurpose::Batch
                | AnyPurpose::FineTune
                | AnyPurpose::UserData
                | AnyPurpose::Evals
                | AnyPurpose::AssistantsOutput
                | AnyPurpose::BatchOutput
                | AnyPurpose::FineTuneResults,
            ) => return Ok(()),
            (Self::Contract, AnyPurpose::Assistants) => ASSISTANTS,
            (Self::Contract, AnyPurpose::Vision) => VISION,
        };
        let essence = mime_type.essence();
        if formats.iter().any(|it| it.listed.iter().chain(it.aliases).any(|it| *it == essence)) {
            return Ok(());
        }
        let accepted = formats.iter().flat_map(|it| it.listed).copied().collect();
        Err(MimeTypeNotAccepted { purpose, mime_type: mime_type.as_str().to_owned(), accepted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: MimePolicy, purpose: AnyPurpose, mime_type: &str) -> Result<(), String> {
        policy.check(purpose, &mime_type.parse().unwrap()).map_err(|it| it.to_string())
    }

    /// The types that OpenAI lists, by extension, and aliases of them.
    #[rustfmt::skip]
    const ASSISTANTS_FILES: &[(&str, &[&str])] = &[
        ("c", &["text/x-c", "text/x-csrc"]),
        ("cpp", &["text/x-c++", "text/x-c++src"]),
        ("cs", &["text/x-csharp"]),
        ("css", &["text/css"]),
        ("csv", &["text/csv", "application/csv", "application/vnd.ms-excel"]),
        ("doc", &["application/msword", "zz-application/zz-winassoc-doc"]),
        ("docx", &["application/vnd.openxmlformats-officedocument.wordprocessingml.document"]),
        ("gif", &["image/gif"]),
        ("go", &["text/x-golang", "text/x-go"]),
        ("html", &["text/html", "application/xhtml+xml"]),
        ("java", &["text/x-java", "text/x-java-source"]),
        ("jpeg", &["image/jpeg", "image/jpg"]),
        ("js", &["text/javascript", "application/javascript", "application/x-javascript"]),
        ("json", &["application/json", "application/schema+json"]),
        ("md", &["text/markdown", "text/x-markdown"]),
        ("pdf", &["application/pdf", "application/acrobat", "image/pdf"]),
        ("php", &["text/x-php", "application/x-php", "application/x-httpd-php", "text/php"]),
        ("pkl", &["application/octet-stream"]),
        ("png", &["image/png"]),
        ("pptx", &["application/vnd.openxmlformats-officedocument.presentationml.presentation"]),
        ("py", &["text/x-python", "text/x-script.python"]),
        ("rb", &["text/x-ruby", "application/x-ruby"]),
        ("sh", &["application/x-sh", "text/x-sh", "application/x-shellscript"]),
        ("tar", &["application/x-tar", "application/x-gtar"]),
        ("tar.gz", &["application/gzip", "application/x-gzip", "application/x-compressed-tar"]),
        ("tex", &["text/x-tex", "application/x-tex"]),
        ("ts", &["application/typescript", "text/typescript", "video/mp2t", "text/vnd.trolltech.linguist",
            "text/vnd.qt.linguist", "application/x-linguist", "video/vnd.dlna.mpeg-tts"]),
        ("txt", &["text/plain"]),
        ("webp", &["image/webp"]),
        ("xlsx", &["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"]),
        ("xml", &["application/xml", "text/xml"]),
        ("zip", &["application/zip", "application/x-zip-compressed", "application/x-zip"]),
    ];

    #[test]
    fn assistants_accepts_the_documented_types_and_their_aliases() {
        for (extension, types) in ASSISTANTS_FILES {
            for mime_type in *types {
                assert_eq!(check(MimePolicy::Contract, AnyPurpose::Assistants, mime_type), Ok(()), "{extension}");
            }
        }
        for refused in ["video/mp4", "audio/mpeg", "image/tiff", "application/x-yaml", "text/jsonl", "text", "text/"] {
            let error = check(MimePolicy::Contract, AnyPurpose::Assistants, refused).unwrap_err();
            assert!(error.contains(&format!("'assistants' cannot be '{refused}'; accepted are text/x-c,")), "{error}");
        }
    }

    #[test]
    fn vision_accepts_four_image_formats_and_lists_them() {
        for accepted in ["image/png", "image/jpeg", "image/jpg", "image/pjpeg", "image/webp", "image/gif"] {
            assert_eq!(check(MimePolicy::Contract, AnyPurpose::Vision, accepted), Ok(()));
        }
        for refused in
            ["image/tiff", "image/svg+xml", "image/heic", "application/pdf", "application/octet-stream", "png"]
        {
            let error = check(MimePolicy::Contract, AnyPurpose::Vision, refused).unwrap_err();
            assert!(error.ends_with("accepted are image/png, image/jpeg, image/webp, image/gif"), "{error}");
        }
    }

    #[test]
    fn case_and_parameters_are_ignored() {
        for (purpose, mime_type) in [
            (AnyPurpose::Assistants, "Text/Markdown; charset=UTF-8"),
            (AnyPurpose::Assistants, "text/markdown;charset=utf-8;variant=GFM"),
            (AnyPurpose::Assistants, "APPLICATION/X-ZIP-COMPRESSED"),
            (AnyPurpose::Assistants, " text/csv ; header=present"),
            (AnyPurpose::Vision, "IMAGE/PNG"),
        ] {
            assert_eq!(check(MimePolicy::Contract, purpose, mime_type), Ok(()), "{mime_type}");
        }
    }

    #[test]
    fn the_message_lists_each_type_once_without_aliases() {
        let error = check(MimePolicy::Contract, AnyPurpose::Assistants, "x").unwrap_err();
        let named: Vec<_> = error.split("accepted are ").last().unwrap().split(", ").collect();
        let mut once = named.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!((named.len(), named.contains(&"application/x-zip")), (once.len(), false), "{named:?}");
    }

    #[test]
    fn other_purposes_and_the_policy_any_accept_any_type() {
        for purpose in [AnyPurpose::Batch, AnyPurpose::FineTune, AnyPurpose::UserData, AnyPurpose::Evals] {
            assert_eq!(check(MimePolicy::Contract, purpose, "video/mp4"), Ok(()));
            assert_eq!(check(MimePolicy::Contract, purpose, "txt"), Ok(()));
        }
        assert_eq!(check(MimePolicy::Any, AnyPurpose::Vision, "text/plain"), Ok(()));
        assert_eq!(check(MimePolicy::Any, AnyPurpose::Assistants, "video/mp4"), Ok(()));
    }
}
