//! The OpenAPI document, compared with the contract.

use serde_json::Value;
use windlass_engine::model::Limits;
use windlass_types::Purpose;

type Operation = (&'static str, &'static str, &'static str, bool, &'static [&'static str], &'static [&'static str]);

/// Every operation but `HEAD`: method, path, id, whether it is an extension, its parameters, and its statuses besides
/// those that every operation has.
#[rustfmt::skip]
const OPERATIONS: &[Operation] = &[
    ("post", "/uploads", "createUpload", false, &["idempotency-key"], &["200", "408"]),
    ("get", "/uploads", "listUploads", true, &["limit", "order", "after"], &["200", "404"]),
    ("get", "/uploads/{upload_id}", "retrieveUpload", true, &["upload_id"], &["200", "404"]),
    ("post", "/uploads/{upload_id}/parts", "addUploadPart", false, &["upload_id", "idempotency-key"], &["200", "404", "408", "410"]),
    ("get", "/uploads/{upload_id}/parts", "listUploadParts", true, &["upload_id", "limit", "after"], &["200", "404"]),
    ("post", "/uploads/{upload_id}/complete", "completeUpload", false, &["upload_id"], &["200", "404", "408", "410"]),
    ("post", "/uploads/{upload_id}/cancel", "cancelUpload", false, &["upload_id"], &["200", "404", "410"]),
    ("post", "/files", "createFile", false, &["idempotency-key"], &["200", "408", "410"]),
    ("get", "/files", "listFiles", false, &["purpose", "limit", "order", "after"], &["200", "404"]),
    ("get", "/files/{file_id}", "retrieveFile", false, &["file_id"], &["200", "404"]),
    ("delete", "/files/{file_id}", "deleteFile", false, &["file_id"], &["200", "404"]),
    ("get", "/files/{file_id}/content", "downloadFile", false, &["file_id", "range", "if-range", "if-none-match",
        "want-repr-digest", "want-content-digest"],
        &["200", "206", "304", "404", "416"]),
    ("post", "/files/{file_id}/signed_url", "createDownloadUrl", true, &["file_id"], &["200", "404", "408"]),
    ("post", "/files/signed_url", "createUploadUrl", true, &[], &["200", "408"]),
    ("get", "/usage", "retrieveUsage", true, &[], &["200"]),
];

/// The statuses that every operation has.
const COMMON: [&str; 7] = ["400", "401", "403", "429", "431", "500", "503"];

/// Every schema: its name and its fields with their types. `?`: may be absent or null; `+`: extension.
#[rustfmt::skip]
const SCHEMAS: &[(&str, &[(&str, &str)])] = &[
    ("CreateUploadRequest", &[("filename", "string"), ("purpose", "FilePurpose"), ("bytes", "integer"), ("mime_type", "string"), ("expires_after", "FileExpirationAfter?")]),
    ("FileExpirationAfter", &[("anchor", "FileExpirationAnchor"), ("seconds", "integer")]),
    ("AddUploadPartRequest", &[("data", "string")]),
    ("CompleteUploadRequest", &[("part_ids", "array"), ("md5", "string?")]),
    ("CreateFileRequest", &[("file", "string"), ("purpose", "FilePurpose"), ("expires_after", "FileExpirationAfter?")]),
    ("Upload", &[("id", "string"), ("object", "string"), ("bytes", "integer"), ("created_at", "integer"), ("filename", "string"),
        ("purpose", "FilePurpose"), ("status", "string"), ("expires_at", "integer"), ("mime_type", "string+"), ("file", "OpenAIFile?")]),
    ("UploadPart", &[("id", "string"), ("object", "string"), ("created_at", "integer"), ("upload_id", "string"), ("bytes", "integer+"), ("crc64nvme", "string+")]),
    ("OpenAIFile", &[("object", "string"), ("id", "string"), ("purpose", "FilePurpose"), ("filename", "string"), ("bytes", "integer"), ("created_at", "integer"),
        ("expires_at", "integer?"), ("status", "string"), ("status_details", "string?"), ("crc64nvme", "string+"), ("md5", "string?+"), ("sha256", "string?+"), ("sha512", "string?+")]),
    ("DeleteFileResponse", &[("object", "string"), ("deleted", "boolean"), ("id", "string")]),
    ("CreateDownloadUrlRequest", &[("expires_in", "integer?+"), ("once", "boolean?+")]),
    ("CreateUploadUrlRequest", &[("method", "string+"), ("filename", "string+"), ("purpose", "FilePurpose+"), ("mime_type", "string?+"), ("max_bytes", "integer?+"),
        ("expires_in", "integer?+"), ("expires_after", "FileExpirationAfter?")]),
    ("SignedUrl", &[("object", "string"), ("url", "string+"), ("method", "string+"), ("expires_at", "integer+")]),
    ("Usage", &[("object", "string"), ("bytes", "integer+"), ("pending_uploads", "integer+"), ("files", "integer+"), ("limits", "UsageLimits+")]),
    ("UsageLimits", &[("bytes", "integer?+"), ("pending_uploads", "integer?+"), ("files", "integer?+")]),
    ("ErrorResponse", &[("error", "Error")]),
    ("Error", &[("message", "string"), ("type", "string"), ("param", "string?"), ("code", "string?")]),
];

fn document() -> Value {
    serde_json::to_value(windlass::http::document(&Limits::default())).unwrap()
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().map(|it| it.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn the_document_has_the_contracts_operations_and_marks_the_others() {
    let document = document();
    let documented: usize = names(&document["paths"])
        .into_iter()
        .map(|path| names(&document["paths"][path]).into_iter().filter(|it| *it != "head").count())
        .sum();
    assert_eq!(documented, OPERATIONS.len(), "a documented operation is not in the table");
    for (method, path, id, extension, parameters, statuses) in OPERATIONS {
        let operation = &document["paths"][path][method];
        assert_eq!(operation["operationId"], *id, "{method} {path}");
        assert_eq!(operation["x-windlass-extension"] == true, *extension, "{id}");
        let found: Vec<_> =
            operation["parameters"].as_array().into_iter().flatten().map(|it| it["name"].as_str().unwrap()).collect();
        let has_body = operation["requestBody"].is_object();
        let digests: &[_] = if has_body { &["content-digest", "repr-digest", "content-md5"] } else { &[] };
        assert_eq!(found, [*parameters, digests].concat(), "{id}");
        let mut expected = [*statuses, &COMMON].concat();
        expected.sort_unstable();
        assert_eq!(names(&operation["responses"]), expected, "{id}");
    }
}

#[test]
fn every_get_has_a_head_without_a_body() {
    let document = document();
    for (_, path, id, ..) in OPERATIONS.iter().filter(|it| it.0 == "get") {
        let head = &document["paths"][path]["head"];
        assert_eq!(head["operationId"], format!("{id}Head"));
        assert_eq!(head["x-windlass-extension"], true, "{id}");
        let responses = head["responses"].as_object().unwrap();
        assert!(responses.contains_key("200") && !responses.contains_key("206"), "{id}");
        for (status, response) in responses {
            assert!(response["content"].is_null() && response["$ref"].is_null(), "{id} {status}: {response}");
        }
    }
}

#[test]
fn every_response_documents_its_headers() {
    let document = document();
    let resolve = |response: &Value| match response["$ref"].as_str() {
        Some(name) => document["components"]["responses"][name.rsplit('/').next().unwrap()].clone(),
        None => response.clone(),
    };
    for (method, path, id, ..) in OPERATIONS {
        for (status, response) in document["paths"][path][method]["responses"].as_object().unwrap() {
            let response = resolve(response);
            let headers = names(&response["headers"]);
            assert!(headers.contains(&"x-request-id"), "{id} {status}: {response}");
            let own = match status.as_str() {
                "401" => "www-authenticate",
                "429" | "503" => "retry-after",
                "206" | "416" => "content-range",
                "304" => "etag",
                _ => continue,
            };
            assert!(headers.contains(&own), "{id} {status}: {response}");
        }
    }
}

/// The types that a value may have to satisfy a schema; empty if no value can.
fn types(document: &Value, schema: &Value) -> Vec<String> {
    const ALL: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];
    let mut types: Vec<_> = match &schema["type"] {
        Value::String(kind) => vec![kind.clone()],
        Value::Array(kinds) => kinds.iter().map(|it| it.as_str().unwrap().to_owned()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => ALL.map(str::to_owned).to_vec(),
    };
    let target = schema["$ref"].as_str().map(|it| it.trim_start_matches('#'));
    let all = target.map(|it| document.pointer(it).expect(it)).into_iter().chain(list(&schema["allOf"]));
    for other in all {
        let others = self::types(document, other);
        types.retain(|it| others.contains(it));
    }
    for alternatives in ["oneOf", "anyOf"].map(|it| &schema[it]).into_iter().filter(|it| it.is_array()) {
        let others: Vec<_> = list(alternatives).flat_map(|it| self::types(document, it)).collect();
        types.retain(|it| others.contains(it));
    }
    types
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Every schema in the document, with its location.
fn schemas<'a>(value: &'a Value, place: &str, found: &mut Vec<(String, &'a Value)>) {
    for (i, item) in list(value).enumerate() {
        schemas(item, &format!("{place}/{i}"), found);
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let place = format!("{place}/{name}");
        match name.as_str() {
            "schema" | "items" => found.push((place.clone(), member)),
            "schemas" | "properties" => {
                found
                    .extend(member.as_object().into_iter().flatten().map(|(name, it)| (format!("{place}/{name}"), it)));
            }
            _ => {}
        }
        schemas(member, &place, found);
    }
}

#[test]
fn every_schema_can_be_satisfied() {
    let document = document();
    let mut found = Vec::new();
    schemas(&document, "", &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for (place, schema) in found {
        assert!(!types(&document, schema).is_empty(), "{place}: {schema}");
    }
    let impossible = serde_json::json!({"allOf": [{"type": "string"}, {"type": "object"}]});
    assert_eq!(types(&document, &impossible), [""; 0]);
}

#[test]
fn forms_encode_objects_in_brackets() {
    let document = document();
    let form = |path: &str| &document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"];
    let brackets = serde_json::json!({"expires_after": {"style": "deepObject", "explode": true}});
    assert_eq!(form("/files")["encoding"], brackets);
    assert!(form("/uploads/{upload_id}/parts")["encoding"].is_null(), "a part has no object fields");
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
    let purposes: Vec<_> = list(&schemas["FilePurpose"]["enum"]).collect();
    assert_eq!(purposes, Purpose::ALL.map(Purpose::as_str));
    let statuses = schemas["Upload"]["properties"]["status"].to_string();
    assert!(["pending", "completed", "cancelled", "expired"].iter().all(|it| statuses.contains(it)), "{statuses}");
    let servers: Vec<_> = list(&document["servers"]).map(|it| &it["url"]).collect();
    assert_eq!(servers, ["/v1", "/openai/v1", "/openai"]);
    let keys = &document["components"]["securitySchemes"];
    assert_eq!(keys["ApiKeyAuth"]["scheme"], "bearer");
    assert_eq!(
        (&keys["AzureApiKeyAuth"]["in"], &keys["AzureApiKeyAuth"]["name"]),
        (&"header".into(), &"api-key".into())
    );
    for request in ["CreateUploadRequest", "AddUploadPartRequest", "CompleteUploadRequest", "CreateFileRequest"] {
        assert_eq!(schemas[request]["additionalProperties"], false, "{request}");
    }
    assert_eq!(schemas["CreateUploadRequest"]["properties"]["bytes"]["maximum"], 8_u64 << 30);
    let small = Limits { upload_bytes: 1000_u64.try_into().unwrap(), ..Limits::default() };
    let small = serde_json::to_value(windlass::http::document(&small)).unwrap();
    let maximum = &small["components"]["schemas"]["CreateUploadRequest"]["properties"]["bytes"]["maximum"];
    assert_eq!(*maximum, 1000, "the document shows the configured limit");
}
