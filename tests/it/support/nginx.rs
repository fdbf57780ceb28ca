//! nginx in front of the service, in a common setup: bodies are forwarded as they arrive, over keep-alive connections.

use std::fs;

use tempfile::TempDir;

use super::program::free_port;
use super::proxy::Proxy;
use super::tools;

/// A running nginx that forwards to one address.
pub struct Nginx {
    pub address: String,
    _proxy: Proxy,
    _folder: TempDir,
}

impl Nginx {
    /// Starts nginx in front of `upstream`; `None` if it is not installed.
    pub fn before(upstream: &str) -> Option<Self> {
        let upstream = upstream.trim_start_matches("http://");
        let program = tools::tool("nginx/usr/sbin/nginx")?;
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        let at = folder.path().display();
        let config = format!(
            "{user} worker_processes 1; daemon off; pid {at}/pid; error_log {at}/error.log;
             events {{ worker_connections 256; }}
             http {{
                 access_log off; client_max_body_size 0; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
                 fastcgi_temp_path {at}/t1; uwsgi_temp_path {at}/t2; scgi_temp_path {at}/t3;
                 upstream windlass {{ server {upstream}; keepalive 1; }}
                 server {{
                     listen 127.0.0.1:{port};
                     location / {{
                         proxy_pass http://windlass; proxy_http_version 1.1; proxy_set_header Connection '';
                         proxy_request_buffering off; proxy_buffer_size 4k;
                     }}
                 }}
             }}"
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let path = folder.path().join("nginx.conf");
        let arguments = ["-c", path.to_str().unwrap(), "-p", folder.path().to_str().unwrap()];
        let proxy = Proxy::start(&program, &arguments, folder.path(), port);
        Some(Self { address: format!("http://127.0.0.1:{port}"), _proxy: proxy, _folder: folder })
    }
}
