//! Simulates the build of the image, up to the point where Cargo has read the manifest, with exactly the files that
//! `.dockerignore` admits and each step of the `Dockerfile` copies.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program::{self, Program};
use crate::support::{StoreKind, TestApp, tools};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `.dockerignore`: the last pattern that matches a path or one of its parents wins.
struct Ignored(Vec<(bool, Vec<String>)>);

impl Ignored {
    fn read() -> Self {
        let text = fs::read_to_string(root().join(".dockerignore")).unwrap();
        let lines = text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
        let pattern = |line: &str| {
            let (is_back_in, path) = line.strip_prefix('!').map_or((false, line), |it| (true, it));
            (is_back_in, path.trim_matches('/').split('/').map(str::to_owned).collect())
        };
        Self(lines.map(pattern).collect())
    }

    fn lets_in(&self, path: &Path) -> bool {
        let names: Vec<_> = path.iter().map(|it| it.to_str().unwrap()).collect();
        let fits =
            |pattern: &[String]| pattern.len() <= names.len() && pattern.iter().zip(&names).all(|(a, b)| matches(a, b));
        self.0.iter().rev().find(|(_, pattern)| fits(pattern)).is_none_or(|(is_back_in, _)| *is_back_in)
    }

    /// Whether a file below a directory may be admitted.
    fn may_let_in_below(&self, directory: &Path) -> bool {
        let names: Vec<_> = directory.iter().map(|it| it.to_str().unwrap()).collect();
        let leads_below = |pattern: &[String]| pattern.iter().zip(&names).all(|(a, b)| matches(a, b));
        self.lets_in(directory) || self.0.iter().any(|(is_back_in, pattern)| *is_back_in && leads_below(pattern))
    }

    /// Every file that is admitted.
    fn context(&self) -> Vec<PathBuf> {
        let (mut files, mut directories) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(root().join(&directory)).unwrap() {
                let entry = entry.unwrap();
                let path = directory.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    directories.extend(self.may_let_in_below(&path).then_some(path));
                } else if self.lets_in(&path) {
                    files.push(path);
                }
            }
        }
        files
    }
}

/// Whether a name matches a pattern, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    assert!(pattern != "**" && !pattern.contains(['?', '[']), "this test does not support '{pattern}'");
    let Some((before, after)) = pattern.split_once('*') else { return pattern == name };
    let rest = name.strip_prefix(before);
    rest.is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..])))
}

/// The instructions of the build stage.
fn build_stage() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let lines: Vec<_> = text.lines().filter(|it| !it.starts_with('#')).collect();
    let text = lines.join("\n").replace("\\\n", " ");
    let instructions =
        text.lines().filter_map(|it| it.split_once(' ')).map(|(a, b)| (a.to_owned(), b.trim().to_owned()));
    let stage: Vec<_> =
        instructions.skip_while(|(it, _)| it != "FROM").skip(1).take_while(|(it, _)| it != "FROM").collect();
    assert!(stage.iter().any(|(it, _)| it == "RUN"), "{stage:?}");
    stage
}

/// Copies files as `COPY` does without options.
fn copy(context: &[PathBuf], arguments: &str, to: &Path) {
    let words: Vec<_> = arguments.split_whitespace().collect();
    assert!(!words[0].starts_with("--"), "this test does not support COPY {arguments}");
    let (target, sources) = words.split_last().unwrap();
    for source in sources {
        let source = Path::new(source.trim_end_matches('/')).strip_prefix(".").unwrap_or(Path::new(source));
        let mut copied = 0;
        for file in context {
            let Ok(below) = file.strip_prefix(source) else { continue };
            let is_the_file = below.as_os_str().is_empty();
            let name = if is_the_file { Path::new(file.file_name().unwrap()) } else { below };
            let into = if is_the_file && !target.ends_with('/') { to.join(target) } else { to.join(target).join(name) };
            fs::create_dir_all(into.parent().unwrap()).unwrap();
            fs::copy(root().join(file), into).unwrap();
            copied += 1;
        }
        assert!(copied > 0, "COPY {arguments}: the context has no {}", source.display());
    }
}

/// A `cargo` that fails on a nonexistent target: by then it has read the manifest and the lock file, with everything
/// they refer to, but has built nothing. (`cargo metadata` does not check that the targets' files exist.)
const READING_CARGO: &str = r#"#!/bin/sh
echo "$*" >>"$0.calls"
[ "$1" != install ] || exit 0
[ "$1" != auditable ] || shift
text=$(CARGO "$@" --offline --bin there-is-none 2>&1)
case $text in
*'no bin target named'*) ;;
*) echo "$text" >&2 && exit 1 ;;
esac
"#;

#[test]
fn cargo_can_read_the_manifest_after_every_step_of_the_images_build() {
    let context = Ignored::read().context();
    assert!(context.len() > 50 && !context.iter().any(|it| it.starts_with("target") || it.starts_with(".git")));
    let (programs, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cargo = programs.path().join("cargo");
    fs::write(&cargo, READING_CARGO.replace("CARGO", env!("CARGO"))).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let others = tools::path();
    let path =
        std::env::join_paths([programs.path().into()].into_iter().chain(std::env::split_paths(&others))).unwrap();
    for (instruction, arguments) in build_stage() {
        match instruction.as_str() {
            "COPY" => copy(&context, &arguments, image.path()),
            "RUN" => {
                let mut command = Command::new("sh");
                let done =
                    command.args(["-ec", &arguments]).current_dir(image.path()).env("PATH", &path).output().unwrap();
                assert!(done.status.success(), "RUN {arguments}: {}", String::from_utf8_lossy(&done.stderr));
            }
            "WORKDIR" => {}
            _ => panic!("this test does not support {instruction}"),
        }
    }
    let calls = fs::read_to_string(programs.path().join("cargo.calls")).unwrap();
    let builds: Vec<_> = calls.lines().filter(|it| !it.starts_with("install ")).collect();
    assert_eq!(builds, ["auditable build --release --locked"; 2], "{calls}");
    everything_that_the_compiler_reads_is_there(&context, image.path());
}

/// Checks for the files that macros read during expansion and that sqlx reads in place of a database.
fn everything_that_the_compiler_reads_is_there(context: &[PathBuf], image: &Path) {
    let is_source = |it: &&PathBuf| it.starts_with("src") || it.starts_with("crates");
    for file in context.iter().filter(is_source).filter(|it| it.extension().is_some_and(|it| it == "rs")) {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let directory = file.parent().unwrap();
        for (call, base) in [
            ("include_str!(\"", directory),
            ("include_bytes!(\"", directory),
            ("#[path = \"", directory),
            ("embed_migrations!(\"", Path::new("crates/windlass-engine")),
        ] {
            for named in text.split(call).skip(1).map(|it| it.split('"').next().unwrap()) {
                assert!(image.join(base).join(named).exists(), "{}: {named}", file.display());
            }
        }
    }
    for (directory, ending) in [(".sqlx", "json"), ("migrations", "sql"), ("src", "rs"), ("crates", "rs")] {
        let count = |root: &Path| files_below(&root.join(directory)).filter(|it| it.ends_with(ending)).count();
        assert_eq!(count(image), count(root()), "{directory}");
    }
    assert!(image.join("crates/windlass-engine/sqlx.toml").exists() && image.join(".cargo/config.toml").exists());
}

fn files_below(directory: &Path) -> impl Iterator<Item = String> {
    let (mut files, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let is_directory = entry.file_type().unwrap().is_dir();
            if is_directory {
                directories.push(entry.path());
            } else {
                files.push(entry.path().display().to_string());
            }
        }
    }
    files.into_iter()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_health_check_passes_while_the_service_answers_and_fails_otherwise() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let check = text.lines().find(|it| it.starts_with("HEALTHCHECK")).unwrap().split_once("CMD ").unwrap().1;
    let check: Vec<String> = serde_json::from_str(check).unwrap();
    let listen = app.client.address.replace("http://", "");
    assert_eq!(check[0], "windlass", "there is no other program in the image");
    let arguments: Vec<_> = check[1..].iter().map(String::as_str).collect();
    let passes = || program::run(&[("WINDLASS_LISTEN".to_owned(), listen.clone())], &arguments).status.success();
    assert!(passes());
    app.program(Program::kill);
    assert!(!passes());
}
