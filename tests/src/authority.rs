//! Certificates of an authority of its own, as files.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};

/// The host's name in every certificate, beside 127.0.0.1.
pub const HOST: &str = "ombre.internal";

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Another than all before.
    ///
    /// # Errors
    /// When the system has no key for it.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Who has the name of his issuer is taken for his own issuer.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes `<name>.pem` and `<name>.key` for `spiffe://mesh/<id>` on [`HOST`].
    ///
    /// # Errors
    /// When the id is none or the files cannot be written.
    pub fn issue(&self, dir: &Path, name: &str, id: &str) -> Result<()> {
        self.write(dir, name, Self::params(id)?)
    }

    /// The same, not valid any more.
    ///
    /// # Errors
    /// As there.
    pub fn issue_expired(&self, dir: &Path, name: &str, id: &str) -> Result<()> {
        let mut params = Self::params(id)?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.write(dir, name, params)
    }

    fn params(id: &str) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(["127.0.0.1", HOST].map(str::to_owned))?;
        let uri = format!("spiffe://mesh/{id}");
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        Ok(params)
    }

    fn write(&self, dir: &Path, name: &str, params: CertificateParams) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(dir.join(format!("{name}.pem")), certificate.pem())?;
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}
