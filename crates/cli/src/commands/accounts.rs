//! `mallee account`: the accounts of the cloud, and one more.

use control::{
    Cloud,
    cloud::{AccountAsk, Ask, NewAccount},
};

use crate::{
    Failure,
    admin::Admin,
    args,
    output::{Output, table},
};

/// Lists accounts, or makes one.
pub async fn run(admin: &args::Admin, output: Output, ask: args::Account) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    match ask {
        args::Account::List => {
            let accounts = admin.cloud.accounts(&admin.call(), Ask {}).await?.accounts;
            output.print(&accounts, || {
                let rows: Vec<[String; 3]> = accounts
                    .iter()
                    .map(|a| {
                        [
                            a.account.to_string(),
                            a.name.clone(),
                            a.canonical_id.clone(),
                        ]
                    })
                    .collect();
                table(["ACCOUNT", "NAME", "CANONICAL ID"], &rows)
            })
        }
        args::Account::Create { name } => {
            let made = admin
                .cloud
                .create_account(&admin.call(), AccountAsk { name })
                .await?;
            output.print(&made, || exports(&made))
        }
    }
}

/// As a shell reads it, so that it can be kept in a file and sourced.
fn exports(made: &NewAccount) -> String {
    format!(
        "# account {} ({})\nexport EC2_USER_ID={}\nexport AWS_ACCESS_KEY_ID={}\n\
         export AWS_SECRET_ACCESS_KEY={}\n",
        made.account,
        made.name,
        made.account,
        made.access_key_id,
        made.secret_access_key.reveal()
    )
}
