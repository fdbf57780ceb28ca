//! Identifiers, one type per resource: a UUIDv7 in the ledger, a prefix and 32 hexadecimal digits on the wire.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::Shown;

/// The error for a text that is not an id of the expected type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected '{prefix}' followed by 32 hexadecimal digits")]
pub struct NotAnId {
    /// Prefix of ids of the expected type.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $noun:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
        pub struct $name(Uuid);

        impl $name {
            /// Prefix of the text form.
            pub const PREFIX: &str = $prefix;

            /// Generates an id that is greater than all ids that this process generated before.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as stored in the ledger.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", Self::PREFIX, self.0.simple())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|error| {
                    de::Error::custom(format_args!(concat!("'{}' is not the id of ", $noun, ": {}"), Shown(&text), error))
                })
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Parses exactly the format of `Display`: lower-case digits, no hyphens.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.strip_prefix(Self::PREFIX)
                    .filter(|digits| digits.len() == 32 && !digits.bytes().any(|b| b.is_ascii_uppercase()))
                    .and_then(|digits| Uuid::try_parse(digits).ok())
                    .map(Self)
                    .ok_or(NotAnId { prefix: Self::PREFIX })
            }
        }
    };
}

id!(
    /// Id of an Upload.
    UploadId, "upload_", "an upload"
);
id!(
    /// Id of a Part. It also names the object in the store, if there is one.
    PartId, "part_", "a part"
);
id!(
    /// Id of a File. Its digits are those of its Upload's id.
    FileId, "file-", "a file"
);
id!(
    /// Id of a project, the unit of multi-tenancy.
    ProjectId, "proj_", "a project"
);
id!(
    /// Id of an API key. It is not secret and cannot be used as the key.
    KeyId, "key_", "an API key"
);
id!(
    /// Identity of a store, recorded both in the ledger and in an object of the store.
    StoreId, "store_", "a store"
);

impl UploadId {
    /// Id of the File that results from this Upload.
    pub fn file(self) -> FileId {
        FileId(self.0)
    }
}

impl FileId {
    /// Id of the Upload that this File was created from.
    pub fn upload(self) -> UploadId {
        UploadId(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_parsed_from_its_text_form() {
        let id = UploadId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), "upload_".len() + 32);
    }

    #[test]
    fn an_id_of_another_type_or_format_is_rejected() {
        let digits = "0192f0c1a2b37c4d8e5f60718293a4b5";
        assert!(format!("part_{digits}").parse::<PartId>().is_ok());
        for text in [
            format!("upload_{digits}"),
            format!("part_{}", digits.to_uppercase()),
            format!("part_{}", &digits[1..]),
            format!("part_{digits}0"),
            digits.to_owned(),
            "part_0192f0c1-a2b3-7c4d-8e5f-60718293a4b5".to_owned(),
            String::new(),
        ] {
            assert!(text.parse::<PartId>().is_err(), "{text}");
        }
    }
}
