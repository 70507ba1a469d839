//! What a program that makes clients wants to know.

use noxrunner_protocol::method::RpcDiscover;
use noxrunner_protocol::types::NoParams;

use crate::context::Context;
use crate::error::CliError;

/// `openrpc`: the document as the daemon gives it, in lines, or in one with `--json`.
pub(crate) fn openrpc(context: &Context<'_>) -> Result<u8, CliError> {
    let document = context.connect()?.call::<RpcDiscover>(&NoParams {})?;
    context.out.result(&document, || context.out.stdout(format!("{document:#}\n").as_bytes()))?;
    Ok(0)
}
