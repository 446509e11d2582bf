//! All views of the event stream, folded together into one tree.

use engine_model::{AsOf, Recorded};

use crate::Error;
use crate::batch::{Batch, NOTHING, Positions, positions};
use crate::table::{AnyTable, Table, View, view_id};
use crate::view::{
    Apis, Applications, BaseImages, Bindings, Brokers, Classes, Functions, Images, Instances,
    Organizations, Schedules, Secrets, ServiceAccounts,
};

/// All views of the event stream.
pub(crate) struct EventFold {
    tree: sled::Tree,
    tables: Vec<Box<dyn AnyTable>>,
}

impl EventFold {
    /// Goes on where the tree stands. A view whose version is another than the stored one begins
    /// anew.
    pub(crate) fn open(tree: sled::Tree) -> Result<Self, Error> {
        let known = positions(&tree)?;
        let tables: Vec<Box<dyn AnyTable>> = vec![
            table::<BaseImages>(&tree, &known),
            table::<Images>(&tree, &known),
            table::<Functions>(&tree, &known),
            table::<Secrets>(&tree, &known),
            table::<Brokers>(&tree, &known),
            table::<Classes>(&tree, &known),
            table::<Instances>(&tree, &known),
            table::<Bindings>(&tree, &known),
            table::<Apis>(&tree, &known),
            table::<Schedules>(&tree, &known),
            table::<Organizations>(&tree, &known),
            table::<ServiceAccounts>(&tree, &known),
            table::<Applications>(&tree, &known),
        ];
        for fresh in tables
            .iter()
            .filter(|table| !known.contains_key(&table.id()))
        {
            clear(&tree, &fresh.prefix())?;
        }
        Ok(Self { tree, tables })
    }

    /// Folds one commit.
    pub(crate) fn fold(&mut self, recorded: &Recorded) -> Result<(), Error> {
        self.tables
            .iter_mut()
            .try_for_each(|table| table.fold(recorded))
    }

    /// How many rows wait to be stored.
    pub(crate) fn pending(&self) -> usize {
        self.tables.iter().map(|table| table.dirty()).sum()
    }

    /// Stores what changed together with the positions, in one step. At most `keep` rows of each
    /// view stay in memory.
    pub(crate) fn commit(&mut self, keep: usize) -> Result<AsOf, Error> {
        let mut batch = Batch::default();
        for table in &mut self.tables {
            table.drain(&mut batch, keep);
        }
        let positions: Positions = self
            .tables
            .iter()
            .map(|table| (table.id(), table.position()))
            .collect();
        batch.apply(&self.tree, &positions)?;
        Ok(self.position())
    }

    /// How far all views have folded.
    pub(crate) fn position(&self) -> AsOf {
        let positions = self.tables.iter().map(|table| table.position());
        positions
            .min_by_key(|position| position.seq)
            .unwrap_or(NOTHING)
    }

    /// The tree.
    pub(crate) fn tree(&self) -> &sled::Tree {
        &self.tree
    }
}

fn table<V: View>(tree: &sled::Tree, known: &Positions) -> Box<dyn AnyTable> {
    let position = known.get(&view_id::<V>()).copied().unwrap_or(NOTHING);
    Box::new(Table::<V>::new(tree, position))
}

/// Removes the rows below `prefix`. The stored positions do not name the view, so a crash in
/// between begins it anew.
fn clear(tree: &sled::Tree, prefix: &str) -> Result<(), Error> {
    for key in tree.scan_prefix(prefix).keys() {
        tree.remove(key?)?;
    }
    Ok(())
}
