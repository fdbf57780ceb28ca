//! Tests of the queue of new Uploads.

use windlass_types::{ByteCount, UploadId};

use super::*;
use crate::model::{Limits, NewUpload, UploadSpec};

type Reply = oneshot::Receiver<Result<Created, QuotaExceeded>>;

/// Adds Uploads of the project. The first one of all returns the guard.
fn add(queue: &CreateQueue, project: ProjectId, count: usize) -> (Vec<Reply>, Option<DrainGuard>) {
    let mut guard = None;
    let replies = (0..count).map(|_| {
        let spec = UploadSpec {
            filename: "a".parse().unwrap(),
            purpose: windlass_types::Purpose::UserData.into(),
            bytes: ByteCount::ZERO,
            mime_type: "text/plain".parse().unwrap(),
            file_lifetime: None,
        };
        let new = NewUpload::new(spec, &Limits::default()).unwrap();
        let creation = Creation { id: UploadId::generate(), project, new };
        let (reply, inserted) = oneshot::channel();
        guard = queue.add(Waiting { creation, reply }).unwrap_or_else(|_| panic!("the queue is full")).or(guard.take());
        inserted
    });
    (replies.collect(), guard)
}

fn of(batch: &[Waiting], project: ProjectId) -> usize {
    batch.iter().filter(|it| it.creation.project == project).count()
}

#[test]
fn a_batch_is_bounded_and_takes_uploads_of_all_projects_in_rotation() {
    let (queue, [many, few]) = (CreateQueue::default(), [ProjectId::generate(), ProjectId::generate()]);
    let (_many, guard) = add(&queue, many, 1000);
    let (_few, _) = add(&queue, few, 100);
    let mut guard = guard.unwrap();
    let first = guard.take_batch().unwrap();
    assert_eq!((of(&first, many), of(&first, few)), (MAX_BATCH - 100, 100));
    let mut left = 1000 - (MAX_BATCH - 100);
    while let Some(batch) = guard.take_batch() {
        assert_eq!(batch.len(), left.min(MAX_BATCH));
        left -= batch.len();
    }
    assert_eq!(left, 0);
}

#[test]
fn uploads_whose_clients_have_disconnected_are_not_inserted() {
    let (queue, project) = (CreateQueue::default(), ProjectId::generate());
    let (gone, guard) = add(&queue, project, 3);
    let (_waiting, _) = add(&queue, project, 2);
    drop(gone);
    let mut guard = guard.unwrap();
    assert_eq!(guard.take_batch().unwrap().len(), 2);
    assert!(guard.take_batch().is_none());
    assert!(add(&queue, project, 1).1.is_some(), "the next upload starts a new task");
}

#[test]
fn the_expected_wait_grows_with_the_uploads_of_the_own_project_and_ends_with_them() {
    let (queue, [many, few]) = (CreateQueue::default(), [ProjectId::generate(), ProjectId::generate()]);
    queue.lock().batch_takes.record(Duration::from_secs(1));
    assert_eq!(queue.expected_wait(many), Duration::ZERO);
    let (_first, guard) = add(&queue, many, 1);
    let mut guard = guard.unwrap();
    assert_eq!(guard.take_batch().unwrap().len(), 1);
    let (_waiting, _) = add(&queue, many, 3 * MAX_BATCH);
    assert_eq!(queue.expected_wait(many).as_secs(), 4);
    assert_eq!(queue.expected_wait(few).as_secs(), 1);
    let since = Instant::now().checked_sub(Duration::from_hours(1));
    queue.lock().batch_since = since;
    assert!(queue.expected_wait(few) >= Duration::from_hours(1), "the batch in progress is stuck");
    while guard.take_batch().is_some() {}
    assert_eq!(queue.expected_wait(many), Duration::ZERO);
}
