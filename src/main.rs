//! Entry point: parses the command line, runs the command and maps its outcome to an exit status.

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use windlass::config::{
    Command, Config, Database, Fsck, Health, InForce, Invocation, SignedUrlsCommand, StoreCommand, Unusable,
    UpgradePostgres,
};
use windlass::embedded::{Postgres, Upgrade, exec_wrapper, upgrade};
use windlass::health::Probe;
use windlass::telemetry::stdout;
use windlass::{app, audit_command, health, http, keys_command, projects_command, signals, telemetry};
use windlass_engine::store::IfMissing;
use windlass_engine::{Finding, FsckOptions, FsckReport, Keys, Service, StoreLink, rotate_url_secret};
use windlass_types::StoreId;

/// Exit status of an fsck that reported unrepaired findings.
const UNREPAIRED_FINDINGS: u8 = 3;

/// Exit status of an fsck without findings that could not check everything.
const NOT_ALL_CHECKED: u8 = 4;

/// Exit status for an invalid command line or setting.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|it| it == exec_wrapper::SUBCOMMAND) {
        return fail(&exec_wrapper::run(arguments));
    }
    let invocation = match Invocation::read() {
        Ok(invocation) => invocation,
        Err(Unusable::CommandLine(output)) => return usage(&output),
        Err(error @ (Unusable::Settings(_) | Unusable::Path(_))) => {
            fail(&error);
            return ExitCode::from(USAGE);
        }
    };
    let code = start(invocation).unwrap_or_else(|error| fail(&*error));
    telemetry::end();
    code
}

/// Prints the output of the command line parser: the help, the version, or an error.
fn usage(output: &clap::Error) -> ExitCode {
    let text = output.render();
    let styled = |is_terminal| if is_terminal { text.ansi().to_string() } else { text.to_string() };
    if output.use_stderr() {
        telemetry::say(styled(io::stderr().is_terminal()).trim_end());
        return ExitCode::from(USAGE);
    }
    match stdout::print(styled(io::stdout().is_terminal()).trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Prints the error and its chain of sources to standard error.
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

/// Starts the embedded database if it is configured, runs the command, then stops the database.
fn start(invocation: Invocation) -> Result<ExitCode, Box<dyn Error>> {
    let Invocation { command, config, in_force, unknown } = invocation;
    signals::survive_file_size_limit()?;
    if let Command::Serve = command {
        signals::ignore_accidental()?;
    }
    if let Command::Openapi = command {
        stdout::print(http::document(&config.limits).to_pretty_json()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Health(Health { ready }) = command {
        let probe = if ready { Probe::Ready } else { Probe::Live };
        stdout::print(health::check(&config.listen, probe)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Config { json } = command {
        print_settings(&in_force, json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let traces = config.traces.as_ref().filter(|_| matches!(command, Command::Serve));
    telemetry::init(&config.log, config.log_format, traces)?;
    for variable in unknown {
        tracing::warn!(setting = %variable, "unrecognized setting");
    }
    if let Command::UpgradePostgres(arguments) = &command {
        return upgrade_postgres(arguments, &config.database);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Installed first, because starting the database may take long.
    let serves = matches!(command, Command::Serve);
    let stop = if serves { runtime.block_on(async { signals::stop() })? } else { CancellationToken::new() };
    let database_exited = CancellationToken::new();
    let postgres = match &config.database {
        Database::Url(_) => None,
        Database::Embedded(settings) if serves => {
            let exited = database_exited.clone();
            match Postgres::start(settings, || stop.is_cancelled(), move || exited.cancel())? {
                None => return Ok(ExitCode::SUCCESS),
                started => started,
            }
        }
        Database::Embedded(settings) => Some(Postgres::start_or_attach(settings)?),
    };
    let url = match (&config.database, &postgres) {
        (Database::Url(url), _) => url.clone(),
        (Database::Embedded(_), postgres) => postgres.as_ref().map(|it| it.url().into()).unwrap_or_default(),
    };
    let outcome = runtime.block_on(database_exited.run_until_cancelled(run(command, config, &url, stop)));
    // The remaining tasks have to end before the database stops.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    postgres.map_or(Ok(()), Postgres::stop)?;
    outcome.unwrap_or_else(|| Err("the embedded PostgreSQL exited".into()))
}

fn print_settings(in_force: &[InForce], json: bool) -> Result<(), Box<dyn Error>> {
    let text = if json {
        serde_json::to_string_pretty(in_force)?
    } else {
        in_force.iter().map(InForce::line).collect::<Vec<_>>().join("\n")
    };
    Ok(stdout::print(text)?)
}

fn upgrade_postgres(arguments: &UpgradePostgres, database: &Database) -> Result<ExitCode, Box<dyn Error>> {
    let Database::Embedded(settings) = database else {
        return Err("DATABASE_URL is set, but only the private PostgreSQL of a data directory can be upgraded".into());
    };
    match upgrade(settings, arguments.from.as_deref())? {
        Upgrade::Unneeded(version) => {
            stdout::print(format_args!("nothing to do: the cluster is already at PostgreSQL {}", version.major()))?;
        }
        Upgrade::Done { from, to, kept } => {
            let kept = kept.display();
            stdout::print(format_args!(
                "upgraded from PostgreSQL {from} to {to}; delete {kept} once you have verified the result"
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(
    command: Command,
    config: Config,
    url: &SecretString,
    stop: CancellationToken,
) -> Result<ExitCode, Box<dyn Error>> {
    let is_audited = config.limits.audit_retention.is_some();
    match command {
        Command::Serve => app::serve(config, url, stop).await?,
        Command::Openapi | Command::Health(_) | Command::Config { .. } | Command::UpgradePostgres(_) => {}
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
        Command::Fsck(arguments) => return fsck(arguments, app::open(&config, url).await?).await,
        Command::Store(command) => {
            let may_make = matches!(command, StoreCommand::Link { yes: true });
            let if_missing = if may_make { IfMissing::Make } else { IfMissing::Fail };
            store(&command, &app::open_unlinked(&config, url, if_missing).await?).await?;
        }
        Command::Keys(command) => {
            keys_command::keys(command, &Keys::new(app::open_db(&config, url, 2).await?, is_audited)).await?;
        }
        Command::SignedUrls(SignedUrlsCommand::RotateSecret { void_existing }) => {
            rotate_url_secret(&app::open_db(&config, url, 2).await?, void_existing, is_audited).await?;
            let outcome = if void_existing { "existing URLs are void" } else { "existing URLs stay valid" };
            stdout::print(format_args!("rotated: {outcome}"))?;
        }
        Command::Projects(command) => {
            let keys = Keys::new(app::open_db(&config, url, 2).await?, is_audited);
            projects_command::projects(command, &keys).await?;
        }
        Command::Audit(command) => audit_command::audit(command, app::open_db(&config, url, 2).await?).await?,
        Command::Usage(command) => {
            let keys = Keys::new(app::open_db(&config, url, 2).await?, is_audited);
            projects_command::usage(command, &keys, config.limits.project).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs fsck. Prints one line per finding, then a summary.
async fn fsck(arguments: Fsck, service: Service) -> Result<ExitCode, Box<dyn Error>> {
    let Fsck { deep, repair, older_than, max_deleted_share } = arguments;
    let options = FsckOptions { deep, repair, older_than, max_deleted_share };
    let print = |finding: &Finding, repaired: bool| {
        let repair = if matches!(finding, Finding::Usage(_)) { "; corrected" } else { "; deleted" };
        let outcome = if repaired { repair } else { "" };
        // An output error is reported by the summary below.
        stdout::print(format_args!("{finding}{outcome}")).ok();
    };
    let report = service.fsck(options, print).await?;
    let FsckReport { objects, rows, findings, repaired, refused, incomplete_unlisted } = report;
    let unchecked = if incomplete_unlisted { ", not checked: incomplete multipart uploads" } else { "" };
    stdout::print(format_args!(
        "objects: {objects}, stored parts: {rows}, findings: {findings}, repaired: {repaired}{unchecked}"
    ))?;
    if let Some(refused) = refused {
        telemetry::say(&format!(
            "nothing was repaired: {refused}, more than --max-deleted-share {max_deleted_share}. Check that this is \
             the current database of this store, not an older copy; if it is, run this again with \
             --max-deleted-share {}",
            refused.share()
        ));
    }
    Ok(match (report.is_clean(), incomplete_unlisted) {
        (false, _) => ExitCode::from(UNREPAIRED_FINDINGS),
        (true, true) => ExitCode::from(NOT_ALL_CHECKED),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Prints how the database and the store are linked, and relinks them if requested.
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
            return Err("nothing was changed: run this again with --yes to link the two under a new identity".into());
        }
        StoreCommand::Link { yes: true } => {
            let id = service.relink_store().await?;
            stdout::print(format_args!("linked: both now have the identity {id}"))?;
        }
    }
    Ok(())
}
