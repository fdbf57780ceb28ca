//! nginx in front of the program, with its default buffers.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::tools;

/// A proxy on a port of its own.
pub struct Nginx {
    process: Child,
    /// Such as `http://127.0.0.1:40123`.
    pub address: String,
    _folder: TempDir,
}

impl Nginx {
    /// Starts one before this address; nothing where it is not installed.
    pub fn before(address: &str) -> Option<Self> {
        let program = tools::tool("nginx/usr/sbin/nginx")?;
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (at, user) = (folder.path().display(), if nix::unistd::geteuid().is_root() { "user root;" } else { "" });
        let config = format!(
            "{user} daemon off; pid {at}/pid; error_log {at}/error.log; events {{ worker_connections 64; }}
             http {{ access_log off; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;
             uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5; proxy_buffer_size 4k;
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {address}; }} }} }}"
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).arg("-c").arg(folder.path().join("nginx.conf"));
        command.arg("-p").arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.stderr(fs::File::create(folder.path().join("log")).unwrap()).spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let said = || fs::read_to_string(folder.path().join("log")).unwrap();
            assert!(began.elapsed() < Duration::from_mins(1), "nginx does not start: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { process, address: format!("http://127.0.0.1:{port}"), _folder: folder })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master ends the workers.
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        self.process.wait().ok();
    }
}
