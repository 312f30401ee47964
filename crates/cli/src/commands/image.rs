//! `mallee image`: from a file to an id, in one go or step by step.

mod bundle;
mod cache;
mod manage;
mod progress;
mod register;
mod unfinished;
mod upload;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    Failure,
    args::{self, Image},
    output::Output,
    public::Public,
};
use bundle::{Channel, Prepared};
use progress::Progress;
use unfinished::Unfinished;
use upload::Place;

/// Parts made but not yet taken by an upload: 10 MiB each.
const WAITING_MAX: usize = 2;

/// Runs one of the image commands.
pub async fn run(admin: &args::Admin, output: Output, ask: Image) -> Result<(), Failure> {
    // The caches are the administrator's, and need no key of an account.
    let public = || Public::from_environment();
    match ask {
        Image::Bundle(ask) => bundle_only(&public()?, output, ask).await,
        Image::Upload(ask) => upload_only(&public()?, output, ask).await,
        Image::Register(ask) => register_only(&public()?, output, ask).await,
        Image::Install(ask) => install(&public()?, output, ask).await,
        Image::List(ask) => manage::list(&public()?, output, ask).await,
        Image::Share(ask) => manage::share(&public()?, output, ask).await,
        Image::Deregister { images } => manage::deregister(&public()?, output, images).await,
        Image::Cache(ask) => cache::run(admin, output, ask).await,
    }
}

/// What a command answers.
#[derive(Debug, Default, Serialize)]
struct Made {
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_id: Option<String>,
}

impl Made {
    /// For people the last thing that was made, which is what the next command wants.
    fn print(&self, output: Output) -> Result<(), Failure> {
        let last = [&self.image_id, &self.location, &self.manifest]
            .into_iter()
            .flatten()
            .next();
        output.print(self, || format!("{}\n", last.map_or("", String::as_str)))
    }
}

async fn bundle_only(public: &Public, output: Output, ask: args::Bundle) -> Result<(), Failure> {
    let prepared = Prepared::of(public, &ask.of).await?;
    let progress = Progress::new(prepared.size_bytes);
    let manifest = bundle::into_folder(prepared, ask.destination, progress.clone()).await?;
    progress.finish();
    Made {
        manifest: Some(manifest.display().to_string()),
        ..Made::default()
    }
    .print(output)
}

async fn upload_only(public: &Public, output: Output, ask: args::Upload) -> Result<(), Failure> {
    let bundle = upload::read_bundle(&ask.manifest)?;
    let progress = Progress::new(0);
    progress.will_upload(bundle.manifest.bundled_bytes);

    // Perhaps not the first try: what is there already is not sent again.
    let place = Place::open(public, &ask.to).await?.look_first(true);
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let reading = tokio::task::spawn_blocking({
        let bundle = bundle.clone();
        move || bundle.read_parts(&sender)
    });
    let sent = place.put_parts(receiver, &progress).await;
    let read = reading
        .await
        .map_err(|error| Failure::failed("reading the bundle", error))?;
    sent.and(read)?;
    let location = place.put_manifest(&bundle.file_name, bundle.text).await?;
    progress.finish();
    Made {
        location: Some(location),
        ..Made::default()
    }
    .print(output)
}

async fn register_only(
    public: &Public,
    output: Output,
    ask: args::Register,
) -> Result<(), Failure> {
    let image_id = register::register(public, &ask.location, &ask.name, &ask.as_).await?;
    Made {
        image_id: Some(image_id),
        ..Made::default()
    }
    .print(output)
}

/// The bundler runs ahead of the uploads by a few parts and no more; nothing touches the disk. A try
/// that broke off is gone on with: the image is read again, what the store has is not sent again.
async fn install(public: &Public, output: Output, ask: args::Install) -> Result<(), Failure> {
    let prepared = Prepared::of(public, &ask.of).await?;
    let unfinished = Unfinished::of(&prepared.identity()?, &ask.to.bucket);
    let place = Place::open(public, &ask.to).await?;
    let place = place.look_first(unfinished.is_resumed);
    let progress = Progress::new(prepared.size_bytes);
    let name = prepared.name.clone();

    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let bundling = tokio::task::spawn_blocking({
        let (progress, key) = (progress.clone(), unfinished.key.clone());
        move || prepared.bundle(&key, &mut Channel(sender, progress.clone()), &progress)
    });
    let sent = place.put_parts(receiver, &progress).await;
    let bundled = bundling
        .await
        .map_err(|error| Failure::failed("bundling", error))?;
    // An upload that fails also stops the bundler; the upload's reason is the one to tell.
    sent?;
    let location = place
        .put_manifest(&format!("{name}.manifest.xml"), bundled?)
        .await?;
    unfinished.done();
    progress.finish();

    let image_id = register::register(public, &location, &name, &ask.as_).await?;
    Made {
        location: Some(location),
        image_id: Some(image_id),
        ..Made::default()
    }
    .print(output)
}
