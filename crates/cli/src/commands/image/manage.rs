//! Images that are registered: listed, shared, taken out of use.

use serde::Serialize;
use types::{AccountId, ImageId};

use crate::{
    Failure, args,
    output::{Output, table},
    public::Public,
    xml,
};

/// An image as it is listed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Listed {
    image_id: String,
    name: String,
    owner: String,
    kind: String,
    state: String,
    public: bool,
    location: String,
}

/// Prints the images that one may launch.
pub(super) async fn list(public: &Public, output: Output, ask: args::List) -> Result<(), Failure> {
    let fields = numbered("Owner", &ask.owner);
    let said = public.ec2("DescribeImages", &borrowed(&fields)).await?;
    let images = read(&said)?;
    output.print(&images, || match images.as_slice() {
        [] => "no image: `mallee image install` makes one of a file\n".to_owned(),
        images => table(
            ["IMAGE", "NAME", "OWNER", "KIND", "STATE", "FOR", "LOCATION"],
            &images.iter().map(row).collect::<Vec<_>>(),
        ),
    })
}

/// Every image has each of these once, so that they come in step.
fn read(said: &str) -> Result<Vec<Listed>, Failure> {
    let column = |name| xml::texts(said, name).into_iter();
    let ids = xml::texts(said, "imageId");
    let count = ids.len();
    let mut rest = [
        column("name"),
        column("imageOwnerId"),
        column("imageType"),
        column("imageState"),
        column("isPublic"),
        column("imageLocation"),
    ];
    if rest.iter().any(|column| column.len() != count) {
        return Err(Failure::failed(
            "DescribeImages",
            "the answer cannot be read",
        ));
    }
    let mut next = |at: usize| rest[at].next().unwrap_or_default();
    let images = ids.into_iter().map(|image_id| Listed {
        image_id,
        name: next(0),
        owner: next(1),
        kind: next(2),
        state: next(3),
        public: next(4) == "true",
        location: next(5),
    });
    Ok(images.collect())
}

fn row(image: &Listed) -> [String; 7] {
    [
        image.image_id.clone(),
        image.name.clone(),
        image.owner.clone(),
        image.kind.clone(),
        image.state.clone(),
        if image.public { "all" } else { "some" }.to_owned(),
        image.location.clone(),
    ]
}

/// Lets accounts launch an image, or no longer.
pub(super) async fn share(
    public: &Public,
    output: Output,
    ask: args::Share,
) -> Result<(), Failure> {
    let fields = permissions(&ask);
    public
        .ec2("ModifyImageAttribute", &borrowed(&fields))
        .await?;
    let whom = whom(&ask);
    let word = if ask.undo {
        "no longer shared"
    } else {
        "shared"
    };
    output.print(&serde_json::json!({"image_id": ask.image}), || {
        format!("{} is {word} with {whom}\n", ask.image)
    })
}

fn permissions(ask: &args::Share) -> Vec<(String, String)> {
    let verb = if ask.undo { "Remove" } else { "Add" };
    let user = |account: &AccountId| ("UserId", account.to_string());
    let all = ask.all.then(|| ("Group", "all".to_owned()));
    let whom = ask.with.iter().map(user).chain(all);
    let mut fields = vec![("ImageId".to_owned(), ask.image.to_string())];
    fields.extend((1..).zip(whom).map(|(number, (kind, value))| {
        (format!("LaunchPermission.{verb}.{number}.{kind}"), value)
    }));
    fields
}

fn whom(ask: &args::Share) -> String {
    let accounts = ask.with.iter().map(ToString::to_string);
    let all = ask.all.then(|| "all".to_owned());
    accounts.chain(all).collect::<Vec<_>>().join(", ")
}

/// Takes images out of use, one after the other; what cannot be stops it.
pub(super) async fn deregister(
    public: &Public,
    output: Output,
    images: Vec<ImageId>,
) -> Result<(), Failure> {
    for image in &images {
        let fields = [("ImageId", image.as_str())];
        public.ec2("DeregisterImage", &fields).await?;
    }
    output.print(&images, || {
        images
            .iter()
            .map(|image| format!("{image} is deregistered\n"))
            .collect()
    })
}

fn numbered(name: &str, values: &[String]) -> Vec<(String, String)> {
    let values = (1..).zip(values);
    values
        .map(|(number, value): (u32, _)| (format!("{name}.{number}"), value.clone()))
        .collect()
}

fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    let pairs = fields.iter();
    pairs
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_read_off_the_answer() {
        let said = "<r><imagesSet><item><imageId>emi-1</imageId><imageLocation>b/m</imageLocation>\
                    <imageState>available</imageState><imageOwnerId>1</imageOwnerId><isPublic>true</isPublic>\
                    <imageType>machine</imageType><name>n</name><tagSet><item><key>name</key>\
                    <value>v</value></item></tagSet></item></imagesSet></r>";
        let images = read(said).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!((images[0].name.as_str(), images[0].public), ("n", true));
        assert_eq!(images[0].location, "b/m");
        assert!(read("<r><imageId>emi-1</imageId></r>").is_err());
        assert_eq!(read("<r><imagesSet/></r>").unwrap(), []);
    }

    #[test]
    fn whom_an_image_is_shared_with_is_said_in_numbers() {
        let ask = args::Share {
            image: "emi-1234abcd".parse().unwrap(),
            with: vec!["123456789012".parse().unwrap()],
            all: true,
            undo: false,
        };
        let fields = permissions(&ask);
        let at = |n: usize| (fields[n].0.as_str(), fields[n].1.as_str());
        assert_eq!(at(1), ("LaunchPermission.Add.1.UserId", "123456789012"));
        assert_eq!(at(2), ("LaunchPermission.Add.2.Group", "all"));
    }
}
