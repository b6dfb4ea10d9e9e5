//! Certificates of one run, made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools::quietly;

const DAYS: &str = "2";
const EC_KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

/// Signs certificates. Its own is `ca.crt` of its folder.
#[derive(Debug)]
pub(super) struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// In a folder that exists.
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        let authority = Self { folder };
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-subj", "/CN=of this run", "-days", DAYS]).args(EC_KEY);
        openssl.arg("-keyout").arg(authority.file("ca.key")).arg("-out").arg(authority.certificate());
        run("making an authority for certificates", &mut openssl)?;
        Ok(authority)
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// `NAME.crt` and `NAME.key` beside its own, for a client and a server of loopback.
    pub(super) fn issue(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")));
        let request = self.file(&format!("{name}.csr"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-new", "-nodes", "-subj", &format!("/CN={name}")]).args(EC_KEY);
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]);
        openssl.args(["-addext", "extendedKeyUsage=serverAuth,clientAuth"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&request);
        run("asking for a certificate", &mut openssl)?;
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-req", "-CAcreateserial", "-copy_extensions", "copy", "-days", DAYS]);
        openssl.arg("-in").arg(&request).arg("-CA").arg(self.certificate());
        openssl.arg("-CAkey").arg(self.file("ca.key")).arg("-out").arg(&certificate);
        run("signing a certificate", &mut openssl)?;
        Ok((certificate, key))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// For tokens of service accounts.
pub(super) fn rsa_key(file: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    run("making a key for service accounts", openssl.args(["genrsa", "-out"]).arg(file).arg("2048"))
}

fn run(what: &str, openssl: &mut Command) -> Result<()> {
    quietly(what, openssl).map(drop).context("install your system's package `openssl`, version 3 or later")
}
