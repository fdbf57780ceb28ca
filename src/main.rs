//! The command line: which command, with which settings, and how the process ends.

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;
use windlass::blobs::IfMissing;
use windlass::config::{
    Command, CommandLine, Config, Database, Fsck, KeysCommand, StoreCommand, Unusable, UpgradePostgres,
};
use windlass::domain::{KeyId, StoreId};
use windlass::embedded::{Postgres, Upgrade, guard, upgrade};
use windlass::service::{Finding, FsckOptions, FsckReport, Keys, Service, StoreLink};
use windlass::telemetry::stdout;
use windlass::{app, http, signals, telemetry};

/// The exit status of an fsck that has found something.
const FOUND: u8 = 3;

/// The exit status of an fsck that found nothing, but could not check everything.
const NOT_ALL_SEEN: u8 = 4;
/// The exit status for an invalid command line or setting.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|it| it == guard::SUBCOMMAND) {
        return fail(&guard::run(arguments));
    }
    let line = match CommandLine::read() {
        Ok(line) => line,
        Err(Unusable::CommandLine(answer)) => return usage(&answer),
        Err(error @ Unusable::Settings(_)) => {
            fail(&error);
            return ExitCode::from(USAGE);
        }
    };
    let code = start(line).unwrap_or_else(|error| fail(&*error));
    telemetry::flush();
    code
}

/// Prints the response of the command-line parser: the help, the version, or an error.
fn usage(answer: &clap::Error) -> ExitCode {
    let text = answer.render();
    let styled = |is_terminal| if is_terminal { text.ansi().to_string() } else { text.to_string() };
    if answer.use_stderr() {
        telemetry::say(styled(io::stderr().is_terminal()).trim_end());
        return ExitCode::from(USAGE);
    }
    match stdout::print(styled(io::stdout().is_terminal()).trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Says what went wrong and why, down to the last cause.
fn fail(error: &dyn Error) -> ExitCode {
    let mut message = format!("windlass: {error}");
    let mut cause = error.source();
    while let Some(it) = cause {
        let text = it.to_string();
        // Some errors repeat their cause in their own text.
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = it.source();
    }
    telemetry::say(&message);
    ExitCode::FAILURE
}

/// Starts the embedded database if one is needed, runs the command, and stops the database last.
fn start(line: CommandLine) -> Result<ExitCode, Box<dyn Error>> {
    let command = line.command.unwrap_or(Command::Serve);
    signals::survive_file_size_limit()?;
    if let Command::Serve = command {
        signals::ignore_accidental()?;
    }
    let config = match Config::try_from(line.options) {
        Ok(config) => config,
        Err(error) => {
            fail(&error);
            return Ok(ExitCode::from(USAGE));
        }
    };
    if let Command::Openapi = command {
        stdout::print(http::document(&config.limits).to_pretty_json()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::init(&config.log, config.log_format)?;
    line.unknown.iter().for_each(|it| tracing::warn!("{it}"));
    if let Command::UpgradePostgres(how) = &command {
        return upgrade_postgres(how, &config.database);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Installed before the database starts, which may take long.
    let serves = matches!(command, Command::Serve);
    let stop = if serves { runtime.block_on(async { signals::stop() })? } else { CancellationToken::new() };
    let database_over = CancellationToken::new();
    let postgres = match &config.database {
        Database::Url(_) => None,
        Database::Embedded(settings) if serves => {
            let over = database_over.clone();
            match Postgres::start(settings, || stop.is_cancelled(), move || over.cancel())? {
                None => return Ok(ExitCode::SUCCESS),
                started => started,
            }
        }
        Database::Embedded(settings) => Some(Postgres::start_or_attach(settings)?),
    };
    let url = match (&config.database, &postgres) {
        (Database::Url(url), _) => url.clone(),
        (Database::Embedded(_), postgres) => postgres.as_ref().map(|it| it.url().to_owned()).unwrap_or_default(),
    };
    let outcome = runtime.block_on(database_over.run_until_cancelled(run(command, config, &url, stop)));
    // Tasks that are still about end before the database does.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    postgres.map_or(Ok(()), Postgres::stop)?;
    outcome.unwrap_or_else(|| Err("the embedded PostgreSQL ended".into()))
}

fn upgrade_postgres(how: &UpgradePostgres, database: &Database) -> Result<ExitCode, Box<dyn Error>> {
    let Database::Embedded(settings) = database else {
        return Err("DATABASE_URL is set: only the private PostgreSQL of a data directory is upgraded".into());
    };
    match upgrade(settings, how.from.as_deref())? {
        Upgrade::Unneeded(version) => {
            stdout::print(format_args!("the data is PostgreSQL {}'s already", version.major()))?;
        }
        Upgrade::Done { from, to, kept } => {
            let kept = kept.display();
            stdout::print(format_args!(
                "moved from PostgreSQL {from} to {to}; delete {kept} once you have verified the result"
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(command: Command, config: Config, url: &str, stop: CancellationToken) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Serve => app::serve(config, url, stop).await?,
        Command::Openapi | Command::UpgradePostgres(_) => {}
        Command::Migrate => drop(app::open_db(&config, url, 2).await?),
        Command::Sweep => {
            let report = app::open(&config, url).await?.sweep_all().await;
            stdout::print(format_args!(
                "uploads expired: {}, files expired: {}, objects deleted: {}, objects failed: {}, rows forgotten: {}",
                report.uploads_expired,
                report.files_expired,
                report.objects_deleted,
                report.objects_failed,
                report.rows_forgotten
            ))?;
            if !report.failed_steps.is_empty() {
                return Err(format!("steps of the sweep failed: {}", report.failed_steps.join(", ")).into());
            }
        }
        Command::Fsck(how) => return fsck(how, app::open(&config, url).await?).await,
        Command::Store(command) => {
            let may_make = matches!(command, StoreCommand::Link { yes: true });
            let if_missing = if may_make { IfMissing::Make } else { IfMissing::Fail };
            store(&command, &app::open_unlinked(&config, url, if_missing).await?).await?;
        }
        Command::Keys(command) => keys(command, &Keys::new(app::open_db(&config, url, 2).await?)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What was found, a line each, and how much was looked at.
async fn fsck(how: Fsck, service: Service) -> Result<ExitCode, Box<dyn Error>> {
    let Fsck { deep, repair, older_than, max_deleted_share } = how;
    let options = FsckOptions { deep, repair, older_than, max_deleted_share };
    let say = |finding: &Finding, repaired: bool| {
        let outcome = if repaired { "; deleted" } else { "" };
        // If this fails, so does the last line below.
        stdout::print(format_args!("{finding}{outcome}")).ok();
    };
    let report = service.fsck(options, say).await?;
    let FsckReport { objects, rows, findings, repaired, refused, half_done_unseen } = report;
    let unseen = if half_done_unseen { ", not looked at: half-done multipart uploads" } else { "" };
    stdout::print(format_args!(
        "objects: {objects}, stored parts: {rows}, findings: {findings}, repaired: {repaired}{unseen}"
    ))?;
    if let Some(refused) = refused {
        telemetry::say(&format!(
            "nothing was repaired: {refused}, more than --max-deleted-share {max_deleted_share}. Check that this is \
             the database of this store and not an older copy; if so, repeat it with --max-deleted-share {}",
            refused.share()
        ));
    }
    Ok(match (report.is_clean(), half_done_unseen) {
        (false, _) => ExitCode::from(FOUND),
        (true, true) => ExitCode::from(NOT_ALL_SEEN),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Shows how the database and the store are linked, and links them anew if requested.
async fn store(command: &StoreCommand, service: &Service) -> Result<(), Box<dyn Error>> {
    let StoreLink { store, found, expected, parts, objects } = service.describe_store().await?;
    let name = |id: Option<StoreId>| id.map_or("none".to_owned(), |it| it.to_string());
    let lines = [
        format!("store: {store}"),
        format!("identity in the store: {}", name(found)),
        format!("identity in the database: {}", name(expected)),
        format!("parts of the database that are in the store: {} of {} sampled", parts.found, parts.sampled),
        format!("objects of the store that are in the database: {} of {} sampled", objects.found, objects.sampled),
    ];
    stdout::print(format_args!("{}", lines.join("\n")))?;
    match command {
        StoreCommand::Show => {}
        StoreCommand::Link { yes: false } => {
            return Err("nothing was changed: repeat it with --yes to link the two under a new identity".into());
        }
        StoreCommand::Link { yes: true } => {
            let id = service.relink_store().await?;
            stdout::print(format_args!("linked: both have the identity {id} now"))?;
        }
    }
    Ok(())
}

async fn keys(command: KeysCommand, keys: &Keys) -> Result<(), Box<dyn Error>> {
    match command {
        KeysCommand::Create { project, name } => {
            let (id, key) = keys.create(&project, &name).await?;
            telemetry::say(&format!("made {id}; the key itself is shown only now:"));
            if let Err(source) = stdout::deliver(key.reveal()) {
                let is_revoked = keys.revoke(id).await.is_ok();
                return Err(
                    if is_revoked { NotShown::Revoked { id, source } } else { NotShown::Valid { id, source } }.into()
                );
            }
        }
        KeysCommand::List => {
            for key in keys.list().await? {
                let made = key.created_at.format("%Y-%m-%d");
                let state =
                    key.revoked_at.map_or("valid".to_owned(), |it| format!("revoked {}", it.format("%Y-%m-%d")));
                stdout::print(format_args!("{}  {}  made {made}  {state}  {}", key.id, key.project, key.name))?;
            }
        }
        KeysCommand::Revoke { id } => {
            keys.revoke(id).await?;
            telemetry::say(&format!("revoked {id}"));
        }
    }
    Ok(())
}

/// A new key could not be shown.
#[derive(Debug, thiserror::Error)]
enum NotShown {
    #[error("the key {id} could not be shown, and was revoked")]
    Revoked { id: KeyId, source: stdout::Error },
    #[error("the key {id} could not be shown, and is valid: revoke it by `windlass keys revoke {id}`")]
    Valid { id: KeyId, source: stdout::Error },
}
