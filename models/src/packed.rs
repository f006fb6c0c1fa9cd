//! Files that were packed before they were given: said so, not called bad text.

/// How packed files begin, what with, and what unpacks them.
const BEGINNINGS: [(&[u8], &str, &str); 5] = [
    (b"\x1f\x8b", "gzip", "zcat"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
    (b"\xfd7zXZ", "xz", "xzcat"),
    (b"BZh", "bzip2", "bzcat"),
    (b"PK\x03\x04", "zip", "unzip -p"),
];

/// Why a file cannot be read that begins so; `None`: it is not packed.
pub(crate) fn packed(head: &[u8]) -> Option<String> {
    let (_, with, by) = BEGINNINGS.iter().find(|(begins, ..)| head.starts_with(begins))?;
    Some(format!("is packed with {with}; unpack it first: `{by} FILE > UNPACKED`"))
}
