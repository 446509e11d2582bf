//! What of images and layers is used, so that the rest can be removed.

use engine_model::Used;
use engine_model::spec::Root;

use crate::aggregate::{base_image, image};
use crate::run::kept;
use crate::state::State;
use crate::world::World;

/// The roots and layers of all base images, images and revisions that are kept.
#[must_use]
pub fn used(world: &World) -> Used {
    let mut used = Used::default();
    let mut note = |root: &Option<Root>, layer: &Option<String>| {
        used.roots
            .extend(root.iter().map(|root| root.digest.clone()));
        used.layers.extend(layer.iter().cloned());
    };
    for (_, state) in world.states() {
        match state {
            State::BaseImage(own) => {
                if let base_image::Stage::Prepared { root } = &own.stage {
                    note(root, &None);
                }
            }
            State::Image(own) => match &own.stage {
                image::Stage::Built { base, layer } => note(&base.root, layer),
                image::Stage::Building { base, .. } | image::Stage::Failed { base, .. } => {
                    note(&base.root, &None);
                }
                image::Stage::Waiting => {}
            },
            _ => {}
        }
    }
    for (_, load) in kept(world) {
        note(&load.root, &load.layer);
    }
    used
}
