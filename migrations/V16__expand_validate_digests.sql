-- Validates the constraints on digests. Reads and writes of files go on meanwhile.

alter table file
    validate constraint file_sha256_check,
    validate constraint file_sha512_check;
