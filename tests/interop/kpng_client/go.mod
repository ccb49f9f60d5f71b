// KPNG's own client, under our frontend. These are the newest versions of these modules that have been published to
// where Go modules come from.
module blixt.dev/interop/client

go 1.21

require (
	github.com/spf13/pflag v1.0.5
	google.golang.org/protobuf v1.28.0
	sigs.k8s.io/kpng/api v0.0.0-20221010162120-e8ab99a40f22
	sigs.k8s.io/kpng/client v0.0.0-20221011133104-469299451522
)

require (
	github.com/cespare/xxhash v1.1.0 // indirect
	github.com/go-logr/logr v1.2.3 // indirect
	github.com/golang/protobuf v1.5.2 // indirect
	github.com/google/btree v1.0.1 // indirect
	github.com/inconshreveable/mousetrap v1.0.0 // indirect
	github.com/spf13/cobra v1.4.0 // indirect
	golang.org/x/net v0.0.0-20220722155237-a158d28d115b // indirect
	golang.org/x/sys v0.0.0-20220722155257-8c9f86f7a55f // indirect
	golang.org/x/text v0.3.7 // indirect
	google.golang.org/genproto v0.0.0-20220502173005-c8bf987b8c21 // indirect
	google.golang.org/grpc v1.47.0 // indirect
	k8s.io/klog/v2 v2.70.1 // indirect
)
