//! `dispatch broker postgres`.

use std::fs;
use std::path::Path;

use adapter_postgres_broker::{Broker, Config, SharedServer, TlsFiles};
use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

use super::{logs, signals};
use crate::args::PostgresBroker;
use crate::config::write_private;
use crate::exit::Exit;
use crate::output::print;

/// Runs the broker until it is asked to end.
pub(crate) async fn postgres_broker(args: PostgresBroker) -> Result<Exit> {
    logs::start();
    let password = secret(&args.password_file)?;
    let mut config = Config::new(args.username, password, args.catalog, args.state_dir);
    config.listen = args.listen;
    if let Some(file) = &args.server_url_file {
        let mut server = SharedServer::new(secret(file)?);
        server.ca_file = args.server_ca_file;
        config.shared = Some(server);
    }
    config.tls = args
        .tls_certificate
        .zip(args.tls_key)
        .map(|(certificate, key)| TlsFiles { certificate, key });
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    config.dedicated.binaries = args.postgres_bin;
    let stop = CancellationToken::new();
    let running = Broker::start(config, stop.clone()).await?;
    let address = running.local_addr;
    if let Some(file) = &args.address_file {
        write_private(file, format!("{address}\n").as_bytes())?;
    }
    print(&format!("Service broker listens on {scheme}://{address}\n"))?;
    signals::asked_to_end().await?;
    stop.cancel();
    running.join.await??;
    Ok(Exit::Done)
}

fn secret(file: &Path) -> Result<String> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.trim_end().to_owned())
}
