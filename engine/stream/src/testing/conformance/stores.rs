//! Rules of blobs and keys.

use adapter_kit::{BlobError, Digest};
use bytes::Bytes;
use engine_model::KeyId;

use super::bed::Bed;

/// The same bytes are stored once and read back whole, from nothing to many pieces.
pub async fn a_blob_is_found_by_its_digest(bed: &mut dyn Bed) {
    let blobs = bed.blobs();
    for size in [0, 1, 128 * 1024, 1_000_003] {
        let bytes: Bytes = (0..size)
            .map(|i: u32| (i % 251) as u8)
            .collect::<Vec<_>>()
            .into();
        let digest = blobs.put(bytes.clone()).await.expect("stored");
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(blobs.put(bytes.clone()).await.expect("stored"), digest);
        assert_eq!(blobs.get(&digest).await.expect("read"), bytes, "{size}");
    }
    let absent = Digest::of(b"never stored");
    assert!(matches!(blobs.get(&absent).await, Err(BlobError::Absent(d)) if d == absent));
    assert!(!blobs.has(&absent).await.expect("asked"));
    blobs.remove(&absent).await.expect("nothing to do");
    let bytes = Bytes::from_static(b"to be removed");
    let gone = blobs.put(bytes.clone()).await.expect("stored");
    assert!(blobs.has(&gone).await.expect("asked"));
    blobs.remove(&gone).await.expect("removed");
    assert!(!blobs.has(&gone).await.expect("asked"));
    assert!(matches!(blobs.get(&gone).await, Err(BlobError::Absent(d)) if d == gone));
    assert_eq!(blobs.put(bytes.clone()).await.expect("stored again"), gone);
    assert_eq!(blobs.get(&gone).await.expect("read"), bytes);
}

/// A key that is there stays as it is; an erased one is nowhere, not even in the files.
pub async fn a_key_is_made_once_and_erased_for_good(bed: &mut dyn Bed) {
    let keys = bed.keys();
    let (one, two) = (
        KeyId("acme/secret/é.1".into()),
        KeyId("acme/secret/e.2".into()),
    );
    let wrapped = b"wrapped-key-canary-7d1f".to_vec();
    assert_eq!(keys.get(&one).await.expect("read"), None);
    assert_eq!(
        keys.create(&one, wrapped.clone()).await.expect("made"),
        wrapped
    );
    assert_eq!(
        keys.create(&one, b"other".to_vec()).await.expect("there"),
        wrapped
    );
    keys.create(&two, b"second".to_vec()).await.expect("made");
    assert_eq!(keys.get(&one).await.expect("read"), Some(wrapped.clone()));

    assert_eq!(
        bed.on_disk(&wrapped),
        bed.has_disk(),
        "the search for the bytes finds them"
    );
    keys.erase(&one).await.expect("erased");
    keys.erase(&one).await.expect("erased twice");
    assert_eq!(keys.get(&one).await.expect("read"), None);
    assert!(!bed.on_disk(&wrapped), "the bytes are still in the store");
    assert_eq!(
        keys.get(&two).await.expect("read"),
        Some(b"second".to_vec())
    );
    bed.restart().await;
    assert!(
        !bed.on_disk(&wrapped),
        "the bytes came back with the server"
    );
}
