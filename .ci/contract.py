"""Compares the served OpenAPI document with the contract's.

Usage: contract.py SERVED.json CONTRACT.yaml. Every path, method, parameter, documented status and field of the
contract must be in the served document, with the same type. The served document may have more.
"""

import json
import sys

import yaml


def resolve(document, schema):
    """Resolves references. Returns the schema and the names of its types."""
    while "$ref" in schema or "allOf" in schema:
        schema = schema["allOf"][0] if "allOf" in schema else document["components"]["schemas"][schema["$ref"].split("/")[-1]]
    kinds = schema.get("type") or [it.get("type", "object") for it in schema.get("anyOf", schema.get("oneOf", [{}]))]
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return schema, {it for it in kinds if it not in (None, "null")} or {"object"}


def compare_operations(contract, served):
    for path, methods in contract["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            here = served["paths"].get(path, {}).get(method)
            if here is None:
                yield f"{where} is missing"
                continue
            if here["operationId"] != operation["operationId"]:
                yield f"{where} has the operation id {here['operationId']}"
            parameters = {(it["in"], it["name"]) for it in here.get("parameters", [])}
            for it in operation.get("parameters", []):
                if (it["in"], it["name"]) not in parameters:
                    yield f"{where} lacks the parameter {it['name']}"
            for status in operation["responses"]:
                # Every operation may respond with 429 or 500; the served document may leave them out.
                if status not in here["responses"] and status not in ("429", "500"):
                    yield f"{where} lacks the response {status}"
            for kind in operation.get("requestBody", {}).get("content", {}):
                if kind not in here.get("requestBody", {}).get("content", {}):
                    yield f"{where} does not accept {kind}"


def compare_schemas(contract, served):
    # The served document has one generic schema for pages.
    names = {"ListFilesResponse": "ListObject_OpenAIFile"}
    for name, schema in contract["components"]["schemas"].items():
        here = served["components"]["schemas"].get(names.get(name, name))
        if here is None:
            yield f"the schema {name} is missing"
            continue
        for field, wanted in schema.get("properties", {}).items():
            if field not in here["properties"]:
                yield f"{name} lacks {field}"
                continue
            wanted_kind, kind = resolve(contract, wanted)[1], resolve(served, here["properties"][field])[1]
            if wanted_kind != kind:
                yield f"{name}.{field} is {kind}, not {wanted_kind}"
        for field in schema.get("required", []):
            if field not in here.get("required", []):
                yield f"{name}.{field} is not required"


def main():
    served, contract = json.load(open(sys.argv[1])), yaml.safe_load(open(sys.argv[2]))
    found = [*compare_operations(contract, served), *compare_schemas(contract, served)]
    print(*found, sep="\n")
    print(f"contract: {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
