//! One file per command.

mod batch;
mod cancel;
mod create;
mod delete;
mod dev;
mod exec;
mod get;
mod history;
mod language;
mod live;
mod logs;
mod operate;
mod report;
mod revisions;
mod schedule;
mod services;
mod source;
mod template;
mod test;
mod update;
mod wait;

use anyhow::{Error, Result};
use clap::CommandFactory;
use engine_model::{Command as Wish, Kind};

use crate::args::{Broker, Cli, Command, Templates};
use crate::client::connect;
use crate::exit::Exit;
use crate::output::print;
use crate::server;

/// Does what was typed.
///
/// # Errors
/// Whatever a person should be told; the caller prints it.
pub(crate) async fn run(cli: Cli) -> Result<Exit> {
    let Cli { global, command } = cli;
    match command {
        Command::Install(install) => server::install(&global, install).await,
        Command::Up(up) => server::up(&global, up).await,
        Command::Serve(serve) => server::serve(&global, serve).await,
        Command::Broker(Broker::Postgres(broker)) => server::postgres_broker(broker).await,
        Command::Create(create) => create::run(&connect(&global).await?, &global, create).await,
        Command::Update(update) => update::run(&connect(&global).await?, &global, update).await,
        Command::Adopt(adopt) => operate::adopt(&connect(&global).await?, &global, adopt).await,
        Command::Get(get) => get::run(&connect(&global).await?, &global, get).await,
        Command::Delete(delete) => delete::run(&connect(&global).await?, &global, delete).await,
        Command::Exec(exec) => exec::run(&connect(&global).await?, &global, exec).await,
        Command::Test(test) => test::run(&connect(&global).await?, &global, test).await,
        Command::Dev(dev) => dev::run(&connect(&global).await?, &global, dev).await,
        Command::Templates(Templates {}) => template::list(&global),
        Command::Cancel(cancel) => cancel::run(&connect(&global).await?, &global, cancel).await,
        Command::Logs(logs) => logs::run(&connect(&global).await?, &global, logs).await,
        Command::History { kind, name } => {
            history::run(&connect(&global).await?, &global, kind, &name).await
        }
        Command::Refresh(named) => {
            let (kind, name) = named.of(&[Kind::ServiceBroker]).map_err(Error::msg)?;
            let connection = connect(&global).await?;
            operate::wish(&connection, kind, name, Wish::Refresh, "Refreshing").await
        }
        Command::Rotate(rotate) => operate::rotate(&global, rotate).await,
        Command::Rollback(rollback) => revisions::rollback(&global, rollback).await,
        Command::Route(route) => revisions::route(&global, route).await,
        Command::Retry { kind, name } => {
            operate::wish(
                &connect(&global).await?,
                kind,
                &name,
                Wish::Retry,
                "Retrying",
            )
            .await
        }
        Command::Abandon(abandon) => operate::abandon(&global, abandon).await,
        Command::Rebuild => operate::rebuild(&connect(&global).await?).await,
        Command::Deadletters { retry } => {
            operate::dead_letters(&connect(&global).await?, &global, retry).await
        }
        Command::Seal { file } => operate::seal(&connect(&global).await?, &file).await,
        Command::Info => operate::info(&connect(&global).await?, &global).await,
        Command::Version => operate::version(&global).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "dispatch", &mut script);
            print(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
        Command::SandboxLauncher => adapter_sandbox::launcher_main(),
    }
}
