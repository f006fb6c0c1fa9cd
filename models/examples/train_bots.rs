//! `train_bots DATA CAPTURES OUT [SEED]`: makes the bot model that comes with the program and prints its figures.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut path = || args.next().map(PathBuf::from);
    let (Some(data), Some(captures), Some(out)) = (path(), path(), path()) else {
        return Err("usage: train_bots DATA CAPTURES OUT [SEED]; `make capture` fills CAPTURES".into());
    };
    let seed = args.next().map_or(Ok(tidegate_models::bots::SEED), |s| s.parse())?;
    let card = tidegate_models::bots::train_builtin(&data, &captures, &out, seed)?;
    println!("{}", serde_json::to_string_pretty(&card.made_by)?);
    println!("{}", serde_json::to_string_pretty(&card.metrics)?);
    Ok(())
}
