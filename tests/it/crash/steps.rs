//! Kills the program right after each crash point.

use std::os::unix::process::ExitStatusExt as _;

use windlass_engine::failpoints::CrashPoint;

use super::operations::Operation::{self, *};
use super::operations::PART_LIMIT;
use crate::support::client::id;
use crate::support::program::Program;
use crate::support::{Client, StoreKind, TestApp};

crate::on_a_directory_and_s3! {
    objects only:
    a_kill_while_an_upload_is_created_leaves_all_or_nothing;
    a_kill_while_a_part_is_added_leaves_all_or_nothing;
    a_kill_while_a_part_is_added_to_the_ledger_leaves_all_or_nothing (WINDLASS_LEDGER_PART_BYTES = "4096");
    a_kill_while_a_part_is_abandoned_leaves_nothing_of_it;
    a_kill_during_an_idempotent_request_leaves_the_object_and_its_response_or_neither;
    a_kill_during_an_idempotent_request_with_a_small_part_leaves_both_or_neither
        (WINDLASS_LEDGER_PART_BYTES = "4096");
    a_kill_while_a_file_is_created_leaves_all_or_nothing;
    a_kill_while_a_file_is_created_in_the_ledger_leaves_all_or_nothing (WINDLASS_LEDGER_PART_BYTES = "4096");
    a_kill_while_an_upload_is_completed_leaves_all_or_nothing;
    a_kill_while_an_upload_is_cancelled_leaves_all_or_nothing;
    a_kill_while_a_file_is_deleted_leaves_all_or_nothing;
    a_kill_while_uploads_expire_is_recovered_by_the_next_sweep;
    a_kill_while_files_expire_is_recovered_by_the_next_sweep;
    a_kill_while_parts_are_discarded_is_recovered_by_the_next_sweep;
    a_kill_while_garbage_is_collected_is_recovered_by_the_next_sweep;
    a_kill_while_garbage_in_the_ledger_is_collected_is_recovered_by_the_next_sweep
        (WINDLASS_LEDGER_PART_BYTES = "4096");
    a_kill_while_old_rows_are_deleted_is_recovered_by_the_next_sweep;
}

async fn a_kill_while_an_upload_is_created_leaves_all_or_nothing(app: &TestApp) {
    kill_at_every_step(app, CreateUpload).await;
}

async fn a_kill_while_a_part_is_added_leaves_all_or_nothing(app: &TestApp) {
    kill_at_every_step(app, AddPart).await;
}

async fn a_kill_while_a_part_is_added_to_the_ledger_leaves_all_or_nothing(app: &TestApp) {
    kill_at_every_step(app, AddSmallPart).await;
}

async fn a_kill_while_a_part_is_abandoned_leaves_nothing_of_it(app: &TestApp) {
    kill_at_every_step(app, AbandonPart).await;
}

async fn a_kill_during_an_idempotent_request_leaves_the_object_and_its_response_or_neither(app: &TestApp) {
    for operation in [CreateUploadOnce, AddPartOnce, CreateFileOnce] {
        kill_at_every_step(app, operation).await;
    }
}

async fn a_kill_during_an_idempotent_request_with_a_small_part_leaves_both_or_neither(app: &TestApp) {
    kill_at_every_step(app, AddSmallPartOnce).await;
}

async fn a_kill_while_a_file_is_created_leaves_all_or_nothing(app: &TestApp) {
    kill_at_every_step(app, CreateFile).await;
}

async fn a_kill_while_a_file_is_created_in_the_ledger_leaves_all_or_nothing(app: &TestApp) {
    kill_at_every_step(app, CreateSmallFile).await;
}

async fn a_kill_while_an_upload_is_completed_leaves_all_or_nothing(app: &TestApp) {
    kill_at_every_step(app, Complete).await;
}

async fn a_kill_while_an_upload_is_cancelled_leaves_all_or_nothing(app: &TestApp) {
    kill_at_every_step(app, Cancel).await;
}

async fn a_kill_while_a_file_is_deleted_leaves_all_or_nothing(app: &TestApp) {
    kill_at_every_step(app, Delete).await;
}

async fn a_kill_while_uploads_expire_is_recovered_by_the_next_sweep(app: &TestApp) {
    kill_at_every_step(app, ExpireUploads).await;
}

async fn a_kill_while_files_expire_is_recovered_by_the_next_sweep(app: &TestApp) {
    kill_at_every_step(app, ExpireFiles).await;
}

async fn a_kill_while_parts_are_discarded_is_recovered_by_the_next_sweep(app: &TestApp) {
    kill_at_every_step(app, Discard).await;
}

async fn a_kill_while_garbage_is_collected_is_recovered_by_the_next_sweep(app: &TestApp) {
    kill_at_every_step(app, Collect).await;
}

async fn a_kill_while_garbage_in_the_ledger_is_collected_is_recovered_by_the_next_sweep(app: &TestApp) {
    kill_at_every_step(app, CollectSmall).await;
}

async fn a_kill_while_old_rows_are_deleted_is_recovered_by_the_next_sweep(app: &TestApp) {
    kill_at_every_step(app, Forget).await;
}

/// The operations that reach a crash point, and whether they are committed by then. Points of the first start have none
/// here: `first_start` tests them.
pub fn reached_by(point: CrashPoint) -> (&'static [Operation], bool) {
    use CrashPoint as P;
    match point {
        P::MigrationLocked
        | P::MigrationWritten
        | P::Migrated
        | P::StoreNamed
        | P::StoreIdentityWritten
        | P::StoreLinked
        | P::FirstKeyKept
        | P::FirstKeyCommitted => (&[], false),
        P::UploadWritten => (&[CreateUpload, CreateUploadOnce], true),
        P::AnswerRecorded => (&[CreateUploadOnce, AddPartOnce, AddSmallPartOnce, CreateFileOnce], false),
        P::PartWritten | P::FileCreated | P::MultipartBegun | P::MultipartWritten | P::ChunkWritten => {
            (&[AddPart, CreateFile, AbandonPart], false)
        }
        P::FileSynced | P::ObjectFinished => (&[AddPart, CreateFile], false),
        P::PartStored => (&[AddPart, AddPartOnce], true),
        P::PartKept => (&[AddSmallPart, AddSmallPartOnce], true),
        P::ObjectAborted | P::PartAbandoned => (&[AbandonPart], false),
        P::FormWritten | P::FormDeclared => (&[CreateFile, CreateSmallFile], false),
        P::UploadLocked => (&[Complete], false),
        P::CompletionWritten => (&[Complete, CreateFile, CreateSmallFile], false),
        P::CompletionCommitted => (&[Complete, CreateFile, CreateSmallFile, CreateFileOnce], true),
        P::CancelWritten | P::CancelDiscarded => (&[Cancel], false),
        P::CancelCommitted => (&[Cancel], true),
        P::DeletionWritten | P::DeletionDiscarded => (&[Delete], false),
        P::DeletionCommitted => (&[Delete], true),
        P::UploadsExpired | P::UploadsDiscarded | P::UploadExpiryCommitted => (&[ExpireUploads], false),
        P::FilesExpired | P::FilesDiscarded | P::FileExpiryCommitted => (&[ExpireFiles], false),
        P::DiscardContinued | P::DiscardCommitted => (&[Discard], false),
        P::GarbageClaimed | P::ObjectsDeleted | P::RowsDeleted => (&[Collect, CollectSmall], false),
        P::FileRemoved | P::MultipartAborted => (&[Collect], false),
        P::UploadsForgotten | P::FilesForgotten | P::ForgettingCommitted => (&[Forget], false),
    }
}

/// Whether operations on this kind of store reach a crash point, and nothing must be left after it.
pub fn is_reached_on(point: CrashPoint, kind: StoreKind) -> bool {
    use CrashPoint as P;
    match kind {
        StoreKind::Directory => !matches!(point, P::MultipartBegun | P::MultipartWritten | P::MultipartAborted),
        StoreKind::Bucket | StoreKind::Moto | StoreKind::Azure => {
            !matches!(point, P::FileCreated | P::FileSynced | P::FileRemoved)
        }
        // A multipart upload whose id was lost remains: Windlass does not list those of Google's store. A lifecycle
        // rule has to abort it (docs/operations.md).
        StoreKind::Google => !matches!(point, P::FileCreated | P::FileSynced | P::FileRemoved | P::MultipartBegun),
    }
}

async fn kill_at_every_step(app: &TestApp, operation: Operation) {
    let kind = app.store.kind();
    for point in CrashPoint::ALL.iter().copied().filter(|it| is_reached_on(*it, kind)) {
        let (operations, committed) = reached_by(point);
        if operations.contains(&operation) {
            kill_at(app, operation, point, committed).await;
            println!(
                "{:<14} | {:<34} | {kind:<9?} | nothing lost, nothing left",
                format!("{operation:?}"),
                point.name()
            );
        }
    }
}

async fn kill_at(app: &TestApp, operation: Operation, point: CrashPoint, committed: bool) {
    let kept = app.client.file("a file that is kept").await;
    let target = operation.prepare(app).await;
    let pending = app.client.upload(7).await;
    let part = app.client.part(&pending, "pending").await;

    let armed = [("WINDLASS_CRASH_AT", point.name()), ("WINDLASS_MAX_PART_BYTES", PART_LIMIT)];
    if operation.is_a_sweep() {
        let died = app.run_with(&armed, &["sweep"]).status;
        assert_eq!(died.signal(), Some(9), "'{}' was not reached: {died}", point.name());
    } else {
        app.restart_with(&armed);
        operation.attempt(&app.client, &target).await;
        let died = app.program(Program::wait);
        assert_eq!(died.signal(), Some(9), "'{}' was not reached: {died}", point.name());
        app.restart_with(&[]);
    }

    let client = Client::new(&app.client.address, &app.client.key);
    assert_eq!(client.download(&kept).await, b"a file that is kept");
    let completed = client.complete(&pending, &[&part]).await.ok();
    assert_eq!(client.download(&id(&completed["file"])).await, b"pending");
    operation.check(&client, &target, committed).await;
    app.ledger_and_store_agree_in_the_end().await;
}
