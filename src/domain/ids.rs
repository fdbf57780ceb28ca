//! Identifiers: one type a resource, a UUIDv7 in the ledger, a prefix and 32 hex digits on the wire.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id here is '{prefix}' and 32 hexadecimal digits")]
pub struct NotAnId {
    /// What an id of this kind begins with.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// What the text form begins with.
            pub const PREFIX: &str = $prefix;

            /// A new id, greater than those made before it on this machine.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as the ledger keeps it.
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

        impl FromStr for $name {
            type Err = NotAnId;

            /// Takes exactly what `Display` writes: lower-case digits, no hyphens.
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
    /// Names an Upload.
    UploadId, "upload_"
);
id!(
    /// Names a Part, and with it the one object that holds its bytes.
    PartId, "part_"
);
id!(
    /// Names a File. It has the digits of the Upload that made it.
    FileId, "file-"
);
id!(
    /// Names a project, the tenant.
    ProjectId, "proj_"
);
id!(
    /// Names an API key; it is not the key itself.
    KeyId, "key_"
);
id!(
    /// Identifies a store. It is recorded both in the ledger and in an object in the store.
    StoreId, "store_"
);

impl UploadId {
    /// The File that this Upload becomes when it is completed.
    pub fn file(self) -> FileId {
        FileId(self.0)
    }
}

impl FileId {
    /// The Upload that made this File.
    pub fn upload(self) -> UploadId {
        UploadId(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        let id = UploadId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), "upload_".len() + 32);
    }

    #[test]
    fn an_id_of_another_kind_or_form_is_refused() {
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
