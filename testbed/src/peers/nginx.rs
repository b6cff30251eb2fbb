//! nginx as a file server over TLS 1.3: to measure retrieval against, and to serve policies. Or in front of another server, over
//! TLS 1.2 alone, as old equipment is.
//!
//! It leaves the files and the clients to the measurement.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::host::{Host, Process};
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;

/// A running nginx that serves the files of [`Nginx::files`].
#[derive(Debug)]
pub struct Nginx {
    _process: Process,
    host: Host,
}

impl Nginx {
    /// Starts nginx on a host of its own, at port 443; it listens when this returns.
    ///
    /// # Errors
    /// When the packages cannot be had or nginx does not start.
    pub fn start(sandbox: &Sandbox, name: &str) -> Result<Self> {
        Self::serving(sandbox, name, "TLSv1.3", |room| format!("root {room}/files;"))
    }

    /// The same in front of the HTTPS server of `behind`, to which it passes requests on as they come: with others it speaks TLS 1.2 and
    /// nothing newer.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn in_front_of(sandbox: &Sandbox, name: &str, behind: &Host) -> Result<Self> {
        let address = behind.ipv4();
        let pass = format!("location / {{ proxy_pass https://{address}; proxy_set_header Host $host; }}");
        Self::serving(sandbox, name, "TLSv1.2", |_| {
            format!("proxy_ssl_protocols TLSv1.3; proxy_http_version 1.1; {pass}")
        })
    }

    fn serving(sandbox: &Sandbox, name: &str, versions: &str, what: impl FnOnce(&str) -> String) -> Result<Self> {
        let host = sandbox.host(name, &[PackageSet::Nginx])?;
        sandbox.certify(&host)?;
        fs::create_dir_all(host.room().join("files"))?;
        let file = host.room().join("nginx.conf");
        let what = what(&host.room().display().to_string());
        fs::write(&file, configuration(&host, versions, &what))?;
        let file = file.display().to_string();
        host.run(&["mkdir", "-p", "/var/log/nginx"])?;
        let mut process = host.spawn("nginx", &["/usr/sbin/nginx", "-c", &file])?;
        host.wait_for_port(443, &mut process)?;
        Ok(Self { _process: process, host })
    }

    /// The machine it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The folder whose files it serves.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.host.room().join("files")
    }
}

fn configuration(host: &Host, versions: &str, what: &str) -> String {
    let room = host.room().display();
    format!(
        "daemon off;\nuser root;\nworker_processes auto;\nerror_log {room}/log/nginx-error.log;\n\
         pid /run/nginx.pid;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  default_type application/octet-stream;\n  types {{ text/plain txt; }}\n  server {{\n    \
         listen 443 ssl;\n    server_name {name};\n    ssl_protocols {versions};\n    \
         ssl_certificate {room}/tls/cert.pem;\n    ssl_certificate_key {room}/tls/key.pem;\n    \
         {what}\n  }}\n}}\n",
        name = host.name(),
    )
}
