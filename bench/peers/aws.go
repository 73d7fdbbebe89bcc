package peers

import (
	"context"
	"encoding/json"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
)

// awsSDK encrypts the record as one JSON text, with the subject as its
// encryption context. Each message has a data key of its own, which a KMS keyring
// asks the KMS for and the raw AES keyring wraps in memory: one call is counted
// for each.
type awsSDK struct {
	client  *esdk.Client
	keyring mpltypes.IKeyring
	suite   mpltypes.ESDKAlgorithmSuiteId
	ids     []string
	calls   int64
}

func newAWS(ctx context.Context) (Adapter, error) {
	client, err := esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{})
	if err != nil {
		return nil, err
	}
	materials, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		return nil, err
	}
	keyring, err := materials.CreateRawAesKeyring(ctx, mpltypes.CreateRawAesKeyringInput{
		KeyName: "peers", KeyNamespace: "lethe", WrappingKey: randomBytes(32), WrappingAlg: mpltypes.AesWrappingAlgAlgAes256GcmIv12Tag16,
	})
	if err != nil {
		return nil, err
	}
	return &awsSDK{
		client: client, keyring: keyring, ids: subjectIDs(),
		suite: mpltypes.ESDKAlgorithmSuiteIdAlgAes256GcmHkdfSha512CommitKey,
	}, nil
}

func (a *awsSDK) KMSCalls() int64 { return a.calls }
func (a *awsSDK) Close()          {}

func (a *awsSDK) Seal(ctx context.Context, subject int, in *Record, out *Stored) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	a.calls++
	message, err := a.client.Encrypt(ctx, esdktypes.EncryptInput{
		Plaintext: text, Keyring: a.keyring, AlgorithmSuiteId: &a.suite,
		EncryptionContext: map[string]string{"subject": a.ids[subject]},
	})
	if err != nil {
		return err
	}
	out.Columns[0] = message.Ciphertext
	return nil
}

func (a *awsSDK) Open(ctx context.Context, subject int, in *Stored, out *Record) error {
	a.calls++
	message, err := a.client.Decrypt(ctx, esdktypes.DecryptInput{
		Ciphertext: in.Columns[0], Keyring: a.keyring,
		EncryptionContext: map[string]string{"subject": a.ids[subject]},
	})
	if err != nil {
		return err
	}
	return json.Unmarshal(message.Plaintext, out)
}
