// KPNG's own server over a file of its global model. These are the newest published versions that fit together.
module blixt.dev/interop/server

go 1.21

require (
	github.com/spf13/pflag v1.0.5
	sigs.k8s.io/kpng/server v0.0.0-20211030152043-9df25fb997c2
)

require (
	github.com/cespare/xxhash v1.1.0 // indirect
	github.com/gogo/protobuf v1.3.2 // indirect
	github.com/golang/protobuf v1.5.2 // indirect
	github.com/google/btree v1.0.1 // indirect
	golang.org/x/net v0.0.0-20211015210444-4f30a5c0130f // indirect
	golang.org/x/sys v0.0.0-20211015200801-69063c4bb744 // indirect
	golang.org/x/text v0.3.7 // indirect
	google.golang.org/genproto v0.0.0-20211016002631-37fc39342514 // indirect
	google.golang.org/grpc v1.41.0 // indirect
	google.golang.org/protobuf v1.27.1 // indirect
	gopkg.in/yaml.v2 v2.4.0 // indirect
	k8s.io/klog v1.0.0 // indirect
	sigs.k8s.io/kpng/api v0.0.0-20211016170559-7c3453c01431 // indirect
	sigs.k8s.io/kpng/client v0.0.0-20211016170559-7c3453c01431 // indirect
)
