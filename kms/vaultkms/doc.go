// Package vaultkms wraps keys with the transit engine of HashiCorp Vault or
// OpenBao: the key-encryption key stays there. It is tested against Vault 1.21;
// OpenBao has the same API and is not tested.
//
// # Setting Vault up
//
// Once, as an administrator:
//
//	vault secrets enable transit
//	vault write transit/config/keys disable_upsert=true
//	vault write -f transit/keys/customers
//
// and a policy for the program's token:
//
//	path "transit/encrypt/customers" { capabilities = ["update"] }
//	path "transit/decrypt/customers" { capabilities = ["update"] }
//	path "transit/keys/customers"    { capabilities = ["read"] }    # optional: for Info, and clearer errors
//	path "transit/config/keys"       { capabilities = ["read"] }    # optional
//
// The key's type must be aes256-gcm96 (the default), aes128-gcm96,
// chacha20-poly1305 or xchacha20-poly1305, and it must not be derived.
//
// # What New checks
//
// Encrypting under a key that was deleted makes transit create another of the
// same name, silently, if the token may "create" and upsert is not disabled:
// everything goes on, and nothing that was wrapped before ever opens again. [New]
// refuses such a set-up with [ErrUpsert]; disable_upsert=true or a token that
// may only "update" is enough. Where the token may see neither (reading
// config/keys needs a permission, sys/capabilities-self comes with the default
// policy), New refuses with [ErrUnverified] unless Options.AllowUnverified is set.
//
// A server from before transit had associated data ignores it. New therefore
// wraps a random probe and sees that it opens with its associated data and does
// not with other. [Key.Ping] opens that probe again, so it also notices a key
// that was deleted or re-made since.
//
// All this is seen when New runs. A policy or mount that is loosened later is
// noticed by Ping, after the harm, or by the next New.
//
// # Handles
//
// With Options.Handles (or handles=… in the URI) a Key can destroy parts of itself
// for ever ([kms.Eraser]). It is no part of KeyURI. Give every key store a transit
// key of its own.
//
// [HandleVersions]: a handle is a version of the key. NewHandle rotates it; Destroy
// raises min_decryption_version and min_encryption_version and trims, which takes
// ALL earlier versions along, whoever wrapped with them, and so also what the Key
// itself wrapped then. Only the latest version cannot be destroyed. The policy needs
//
//	path "transit/keys/customers"        { capabilities = ["read"] }
//	path "transit/keys/customers/rotate" { capabilities = ["update"] }
//	path "transit/keys/customers/config" { capabilities = ["update"] }
//	path "transit/keys/customers/trim"   { capabilities = ["update"] }
//
// [HandleKeys]: a handle is a transit key "customers-LABEL". No other key may have a
// name that begins so, for the policy lets it be deleted:
//
//	path "transit/keys/customers"      { capabilities = ["read"] }
//	path "transit/keys/customers-*"    { capabilities = ["create", "read", "update", "delete"] }
//	path "transit/encrypt/customers-*" { capabilities = ["update"] }
//	path "transit/decrypt/customers-*" { capabilities = ["update"] }
//	path "transit/config/keys"         { capabilities = ["read"] }
//
// With it, a stolen token can destroy what is alive; let only the program that
// closes epochs have these lines. "config" also lets a token make a key exportable,
// which cannot be seen beforehand and not be undone: every operation that makes or
// destroys a handle looks, and refuses with [kms.ErrDenied]. A version that is
// barred and not trimmed counts as live, for the bar can be lifted. Destroyed means
// that the running Vault has it no more; snapshots of its storage, and replicas cut
// off from it, still do.
//
// # What goes over the wire
//
// Requests go to the client's address and nowhere else: redirects are not
// followed, so that a token reaches no other host. Standby nodes of Vault
// forward requests by themselves; one that redirects instead (its forwarding is
// switched off) looks unavailable: name the active node, or a load balancer in
// front. Plain http is refused except to a loopback address, and so is a client
// that does not verify certificates. Answers are bounded and checked.
//
// A ciphertext is what transit returned, "vault:v1:…" as bytes; it is what
// Tink's hcvault client returns too, and each opens the other's where the
// associated data is the same. transit's rewrap operation ignores associated
// data and is not used; to move to a new key version, unwrap and wrap.
//
// # Errors
//
// They match [kms.ErrUnavailable] where Vault is away, sealed, a standby,
// overloaded (429, 5xx), or answers with something that is not Vault's;
// [kms.ErrDenied] for 401, 403 and a refused login; [kms.ErrRejected] for 400 and other
// refusals. Vault's own text is not repeated in them, for it is not ours to
// vouch that it repeats no secret; a few known messages are recognised and said
// in our words. Nothing is retried here: wrap the Key with [kms.NewResilient], as
// the keyring in package envelope does.
package vaultkms
