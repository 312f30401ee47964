//! Registering: the one call of EC2 that makes a bundle an image.

use crate::{Failure, args, public::Public, xml};

/// Registers the bundle at `BUCKET/NAME.manifest.xml`; gives the image's id.
pub(super) async fn register(
    public: &Public,
    location: &str,
    name: &str,
    as_: &args::As,
) -> Result<String, Failure> {
    let mut fields = vec![("ImageLocation", location), ("Name", name)];
    if let Some(description) = &as_.description {
        fields.push(("Description", description));
    }
    let said = public.ec2("RegisterImage", &fields).await?;
    xml::text(&said, "imageId")
        .ok_or_else(|| Failure::failed("RegisterImage", "the answer holds no image id"))
}
