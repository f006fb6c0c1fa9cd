//! `train_bots DATA OUT [SEED]`: makes the bot model that comes with the program and prints its figures.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(data), Some(out)) = (args.next().map(PathBuf::from), args.next().map(PathBuf::from)) else {
        return Err("usage: train_bots DATA OUT [SEED]".into());
    };
    let seed = args.next().map_or(Ok(tidegate_models::bots::SEED), |s| s.parse())?;
    let card = tidegate_models::bots::train_builtin(&data, &out, seed)?;
    println!("{}", serde_json::to_string_pretty(&card.made_by)?);
    println!("{}", serde_json::to_string_pretty(&card.metrics)?);
    Ok(())
}
