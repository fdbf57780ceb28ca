//! The OpenAPI document, held against the contract's facts.

use serde_json::Value;

type Operation = (&'static str, &'static str, &'static str, bool, &'static [&'static str], &'static [&'static str]);

/// Every operation: method, path, id, whether it is an extension, its parameters, its answers.
#[rustfmt::skip]
const OPERATIONS: &[Operation] = &[
    ("post", "/uploads", "createUpload", false, &[], &["200", "400"]),
    ("get", "/uploads", "listUploads", true, &["limit", "order", "after"], &["200", "400", "404"]),
    ("get", "/uploads/{upload_id}", "retrieveUpload", true, &["upload_id"], &["200", "404"]),
    ("post", "/uploads/{upload_id}/parts", "addUploadPart", false, &["upload_id"], &["200", "400", "404", "410"]),
    ("get", "/uploads/{upload_id}/parts", "listUploadParts", true, &["upload_id", "limit", "after"], &["200", "400", "404"]),
    ("post", "/uploads/{upload_id}/complete", "completeUpload", false, &["upload_id"], &["200", "400", "404", "410"]),
    ("post", "/uploads/{upload_id}/cancel", "cancelUpload", false, &["upload_id"], &["200", "400", "404", "410"]),
    ("post", "/files", "createFile", false, &[], &["200", "400"]),
    ("get", "/files", "listFiles", false, &["purpose", "limit", "order", "after"], &["200", "400", "404"]),
    ("get", "/files/{file_id}", "retrieveFile", false, &["file_id"], &["200", "404"]),
    ("delete", "/files/{file_id}", "deleteFile", false, &["file_id"], &["200", "404"]),
    ("get", "/files/{file_id}/content", "downloadFile", false, &["file_id"], &["200", "404"]),
];

/// Every schema: its name and its fields, each with its type; `?` may be absent or null, `+` is an extension.
#[rustfmt::skip]
const SCHEMAS: &[(&str, &[(&str, &str)])] = &[
    ("CreateUploadRequest", &[("filename", "string"), ("purpose", "string"), ("bytes", "integer"), ("mime_type", "string"), ("expires_after", "FileExpirationAfter?")]),
    ("FileExpirationAfter", &[("anchor", "string"), ("seconds", "integer")]),
    ("AddUploadPartRequest", &[("data", "string")]),
    ("CompleteUploadRequest", &[("part_ids", "array"), ("md5", "string?")]),
    ("CreateFileRequest", &[("file", "string"), ("purpose", "string"), ("expires_after", "FileExpirationAfter?")]),
    ("Upload", &[("id", "string"), ("object", "string"), ("bytes", "integer"), ("created_at", "integer"), ("filename", "string"),
        ("purpose", "string"), ("status", "string"), ("expires_at", "integer"), ("mime_type", "string+"), ("file", "OpenAIFile?")]),
    ("UploadPart", &[("id", "string"), ("object", "string"), ("created_at", "integer"), ("upload_id", "string"), ("bytes", "integer+"), ("crc64nvme", "string+")]),
    ("OpenAIFile", &[("object", "string"), ("id", "string"), ("purpose", "string"), ("filename", "string"), ("bytes", "integer"), ("created_at", "integer"),
        ("expires_at", "integer?"), ("status", "string"), ("status_details", "string?"), ("crc64nvme", "string+"), ("md5", "string?+")]),
    ("DeleteFileResponse", &[("object", "string"), ("deleted", "boolean"), ("id", "string")]),
    ("ErrorResponse", &[("error", "Error")]),
    ("Error", &[("message", "string"), ("type", "string"), ("param", "string?"), ("code", "string?")]),
];

fn document() -> Value {
    serde_json::to_value(windlass::http::document()).unwrap()
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().map(|it| it.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn the_document_has_the_contracts_operations_and_marks_the_others() {
    let document = document();
    let documented: usize =
        names(&document["paths"]).into_iter().map(|path| names(&document["paths"][path]).len()).sum();
    assert_eq!(documented, OPERATIONS.len(), "an operation is documented that is not in the table");
    for (method, path, id, extension, parameters, answers) in OPERATIONS {
        let operation = &document["paths"][path][method];
        assert_eq!(operation["operationId"], *id, "{method} {path}");
        assert_eq!(operation["x-windlass-extension"] == true, *extension, "{id}");
        let found: Vec<_> =
            operation["parameters"].as_array().into_iter().flatten().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(&found, parameters, "{id}");
        for answer in *answers {
            assert!(operation["responses"][answer].is_object(), "{id} {answer}");
        }
        let said: Vec<_> = names(&operation["responses"]);
        assert!(said.iter().all(|it| !["409", "413", "423"].contains(it)), "{id} {said:?}");
    }
}

#[test]
fn the_document_has_the_contracts_fields_and_marks_the_others() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for (name, fields) in SCHEMAS {
        let schema = &schemas[name];
        let mut documented = names(&schema["properties"]);
        documented.sort_unstable();
        let mut expected: Vec<_> = fields.iter().map(|(field, _)| *field).collect();
        expected.sort_unstable();
        assert_eq!(documented, expected, "{name}");
        for (field, kind) in *fields {
            let property = &schema["properties"][field];
            let (optional, extension) = (kind.contains('?'), kind.contains('+'));
            let kind = kind.trim_end_matches(['?', '+']);
            let text = property.to_string();
            assert!(
                text.contains(&format!("\"{kind}\"")) || text.contains(&format!("schemas/{kind}\"")),
                "{name}.{field}: {text}"
            );
            let required = schema["required"].as_array().is_some_and(|it| it.contains(&(*field).into()));
            assert_eq!(required && !text.contains("\"null\""), !optional, "{name}.{field}: {text}");
            let marked = property["description"].as_str().is_some_and(|it| it.starts_with("Extension"));
            assert_eq!(marked, extension, "{name}.{field}: {text}");
        }
    }
}

#[test]
fn the_document_has_the_contracts_bounds() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let seconds = &schemas["FileExpirationAfter"]["properties"]["seconds"];
    assert_eq!((&seconds["minimum"], &seconds["maximum"]), (&3600.into(), &2_592_000.into()));
    let purposes = schemas["CreateUploadRequest"]["properties"]["purpose"].to_string();
    for purpose in windlass::domain::Purpose::ALL {
        assert!(purposes.contains(&format!("\"{purpose}\"")), "{purposes}");
    }
    let statuses = schemas["Upload"]["properties"]["status"].to_string();
    assert!(["pending", "completed", "cancelled", "expired"].iter().all(|it| statuses.contains(it)), "{statuses}");
    assert_eq!(document["servers"][0]["url"], "/v1");
    assert_eq!(document["components"]["securitySchemes"]["ApiKeyAuth"]["scheme"], "bearer");
}
